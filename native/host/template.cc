#include "host/template.h"

#include <cstring>

namespace pkcs11ha {

Template Template::read(Reader& reader) {
  Template result;
  std::vector<Bytes> values;
  std::size_t size = 0;
  const std::uint32_t count = reader.u32();
  for (std::uint32_t i = 0; i < count; ++i) {
    result.attributes_.push_back({reader.u64(), nullptr, 0});
    values.push_back(reader.sized());
    size += (values.back().size() + alignof(CK_ULONG) - 1) / alignof(CK_ULONG);
  }
  result.storage_.resize(size);
  CK_ULONG* at = result.storage_.data();
  for (std::uint32_t i = 0; i < count; ++i) {
    const Bytes value = values[i];
    if (value.empty()) continue;
    std::memcpy(at, value.data(), value.size());
    result.attributes_[i].pValue = at;
    result.attributes_[i].ulValueLen = value.size();
    at += (value.size() + alignof(CK_ULONG) - 1) / alignof(CK_ULONG);
  }
  return result;
}

}  // namespace pkcs11ha
