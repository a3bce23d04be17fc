// Reading and writing of packets: bounds checked, in the machine's byte order.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <stdexcept>
#include "common/guarded.h"

namespace pkcs11ha {

using Bytes = std::span<std::uint8_t>;

// Error of a packet that does not follow its format. The host answers with the status `malformed`.
struct Malformed : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Reader of a packet in place. Byte strings that the reader returns point into the packet, and a token may change them
// (a mechanism's parameters).
class Reader {
 public:
  explicit Reader(Bytes bytes) : bytes_(bytes) {}

  std::uint8_t u8() { return number<std::uint8_t>(); }
  std::uint32_t u32() { return number<std::uint32_t>(); }
  std::uint64_t u64() { return number<std::uint64_t>(); }
  Bytes take(std::size_t size);
  Bytes sized() { return take(u32()); }
  // Returns the last bytes of the packet without taking them.
  Bytes tail(std::size_t size) const;
  bool atEnd() const { return bytes_.empty(); }

 private:
  template <typename T>
  T number() {
    T value;
    std::memcpy(&value, take(sizeof value).data(), sizeof value);
    return value;
  }

  Bytes bytes_;
};

// Writer that appends to a buffer.
class Writer {
 public:
  explicit Writer(WipedBytes& buffer) : buffer_(buffer) {}

  void u8(std::uint8_t value) { buffer_.push_back(value); }
  void u32(std::uint32_t value) { number(value); }
  void u64(std::uint64_t value) { number(value); }
  void sized(std::span<const std::uint8_t> bytes);
  // Begins a sized string of unknown length: `reserve` returns room to write to, `finishSized` cuts the string.
  std::size_t beginSized() {
    u32(0);
    return buffer_.size();
  }
  Bytes reserve(std::size_t begin, std::size_t size) {
    buffer_.resize(begin + size);
    return Bytes(buffer_).subspan(begin, size);
  }
  void finishSized(std::size_t begin, std::size_t size);
  std::size_t size() const { return buffer_.size(); }
  void patch32(std::size_t at, std::uint32_t value) { std::memcpy(buffer_.data() + at, &value, sizeof value); }
  void patch64(std::size_t at, std::uint64_t value) { std::memcpy(buffer_.data() + at, &value, sizeof value); }
  void cut(std::size_t size) { buffer_.resize(size); }

 private:
  template <typename T>
  void number(T value) {
    const std::size_t at = buffer_.size();
    buffer_.resize(at + sizeof value);
    std::memcpy(buffer_.data() + at, &value, sizeof value);
  }

  WipedBytes& buffer_;
};

}  // namespace pkcs11ha
