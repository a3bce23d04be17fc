#include "common/ring.h"

#include <algorithm>
#include <cstring>

namespace pkcs11ha {
namespace {

// Returns a checksum of a packet. It finds memory that a library has written by mistake, and is no protection against
// one that makes checksums too.
std::uint32_t checksumOf(std::span<const std::uint8_t> bytes) {
  std::uint64_t state = 0x9e3779b97f4a7c15 ^ bytes.size();
  const auto mix = [&state](std::uint64_t word) {
    state = (state ^ word) * 0x9fb21c651e98df25;
    state ^= state >> 32;
  };
  while (bytes.size() >= sizeof(std::uint64_t)) {
    std::uint64_t word = 0;
    std::memcpy(&word, bytes.data(), sizeof word);
    mix(word);
    bytes = bytes.subspan(sizeof word);
  }
  std::uint64_t rest = 0;
  if (!bytes.empty()) std::memcpy(&rest, bytes.data(), bytes.size());
  mix(rest);
  return static_cast<std::uint32_t>(state);
}

}  // namespace

void Ring::write(std::uint64_t at, std::span<const std::uint8_t> bytes) {
  if (bytes.empty()) return;
  const std::size_t from = at & kMask;
  const std::size_t first = std::min(bytes.size(), kSize - from);
  std::memcpy(bytes_.data() + from, bytes.data(), first);
  std::memcpy(bytes_.data(), bytes.data() + first, bytes.size() - first);
}

void Ring::read(std::uint64_t at, std::span<std::uint8_t> bytes) const {
  if (bytes.empty()) return;
  const std::size_t from = at & kMask;
  const std::size_t first = std::min(bytes.size(), kSize - from);
  std::memcpy(bytes.data(), bytes_.data() + from, first);
  std::memcpy(bytes.data() + first, bytes_.data(), bytes.size() - first);
}

void Ring::writeHeader(std::uint64_t at, const Header& header) {
  write(at, {reinterpret_cast<const std::uint8_t*>(&header), sizeof header});
}

Ring::Header Ring::headerAt(std::uint64_t at) const {
  Header header{};
  read(at, {reinterpret_cast<std::uint8_t*>(&header), sizeof header});
  return header;
}

bool Ring::hasRoomFor(std::size_t size) const {
  const std::uint64_t used = written_.load(std::memory_order_relaxed) - taken_.load(std::memory_order_acquire);
  return size <= kSize && used <= kSize && footprint(size) <= kSize - used;
}

bool Ring::put(std::span<const std::uint8_t> packet) {
  if (packet.empty() || !hasRoomFor(packet.size())) return false;
  const std::uint64_t at = written_.load(std::memory_order_relaxed);
  const auto size = static_cast<std::uint32_t>(packet.size());
  writeHeader(at, {size, checksumOf(packet)});
  write(at + kHeader, packet);
  written_.store(at + footprint(size));
  return true;
}

bool Ring::putSocketMark() {
  if (!hasRoomFor(0)) return false;
  const std::uint64_t at = written_.load(std::memory_order_relaxed);
  writeHeader(at, {kOnSocket, 0});
  written_.store(at + kHeader);
  return true;
}

Ring::Next Ring::next() const {
  const std::uint64_t at = taken_.load(std::memory_order_relaxed);
  // Sequentially consistent: ordered after this side's own declaration that it waits.
  const std::uint64_t there = written_.load() - at;
  if (there == 0) return {Taken::nothing, 0};
  if (there > kSize || there < kHeader) return {Taken::broken, 0};
  // Reads the size once, because the other side could change it between check and use.
  const std::uint32_t size = headerAt(at).size;
  if (size == kOnSocket) return {Taken::onSocket, 0};
  if (size == 0 || footprint(size) > there) return {Taken::broken, 0};
  return {Taken::packet, size};
}

bool Ring::takeInto(std::span<std::uint8_t> room) {
  const std::uint64_t at = taken_.load(std::memory_order_relaxed);
  const Header header = headerAt(at);
  read(at + kHeader, room);
  taken_.store(at + footprint(room.size()));
  // Checks the copy, which the other side cannot change any more.
  return header.size == room.size() && header.checksum == checksumOf(room);
}

void Ring::skip() { taken_.store(taken_.load(std::memory_order_relaxed) + kHeader); }

Ring::Taken Ring::take(std::vector<std::uint8_t>& packet) {
  const auto [kind, size] = next();
  if (kind == Taken::onSocket) skip();
  if (kind == Taken::packet) {
    packet.resize(size);
    if (!takeInto(packet)) return Taken::broken;
  }
  return kind;
}

}  // namespace pkcs11ha
