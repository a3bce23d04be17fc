#include "host/wire.h"

namespace pkcs11ha {

Bytes Reader::take(std::size_t size) {
  if (size > bytes_.size()) throw Malformed("the packet is too short");
  const Bytes taken = bytes_.first(size);
  bytes_ = bytes_.subspan(size);
  return taken;
}

Bytes Reader::tail(std::size_t size) const {
  if (size > bytes_.size()) throw Malformed("the packet is too short");
  return bytes_.last(size);
}

void Writer::sized(std::span<const std::uint8_t> bytes) {
  u32(static_cast<std::uint32_t>(bytes.size()));
  buffer_.insert(buffer_.end(), bytes.begin(), bytes.end());
}

void Writer::finishSized(std::size_t begin, std::size_t size) {
  buffer_.resize(begin + size);
  patch32(begin - sizeof(std::uint32_t), static_cast<std::uint32_t>(size));
}

}  // namespace pkcs11ha
