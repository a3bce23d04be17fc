#include "common/ring.h"

#include <algorithm>
#include <cstring>

namespace pkcs11ha {

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

bool Ring::hasRoomFor(std::size_t size) const {
  const std::uint64_t used = written_.load(std::memory_order_relaxed) - taken_.load(std::memory_order_acquire);
  return size <= kSize && used <= kSize && footprint(size) <= kSize - used;
}

bool Ring::put(std::span<const std::uint8_t> packet) {
  if (packet.empty() || !hasRoomFor(packet.size())) return false;
  const std::uint64_t at = written_.load(std::memory_order_relaxed);
  const auto size = static_cast<std::uint32_t>(packet.size());
  write(at, {reinterpret_cast<const std::uint8_t*>(&size), sizeof size});
  write(at + kHeader, packet);
  written_.store(at + footprint(size));
  return true;
}

bool Ring::putSocketMark() {
  if (!hasRoomFor(0)) return false;
  const std::uint64_t at = written_.load(std::memory_order_relaxed);
  const std::uint32_t mark = kOnSocket;
  write(at, {reinterpret_cast<const std::uint8_t*>(&mark), sizeof mark});
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
  std::uint32_t size = 0;
  read(at, {reinterpret_cast<std::uint8_t*>(&size), sizeof size});
  if (size == kOnSocket) return {Taken::onSocket, 0};
  if (size == 0 || footprint(size) > there) return {Taken::broken, 0};
  return {Taken::packet, size};
}

void Ring::takeInto(std::span<std::uint8_t> room) {
  const std::uint64_t at = taken_.load(std::memory_order_relaxed);
  read(at + kHeader, room);
  taken_.store(at + footprint(room.size()));
}

void Ring::skip() { taken_.store(taken_.load(std::memory_order_relaxed) + kHeader); }

Ring::Taken Ring::take(std::vector<std::uint8_t>& packet) {
  const auto [kind, size] = next();
  if (kind == Taken::onSocket) skip();
  if (kind == Taken::packet) {
    packet.resize(size);
    takeInto(packet);
  }
  return kind;
}

}  // namespace pkcs11ha
