// One direction of the channel: packets in memory that both processes see. One side writes and the other takes;
// where a side has several threads, one of them at a time does.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace pkcs11ha {

class Ring {
 public:
  static constexpr std::size_t kSize = std::size_t{1} << 16;
  // broken: the other side has written what cannot be, and nothing in here can be believed any more.
  enum class Taken { nothing, packet, elsewhere, broken };

  // False where there is no room.
  bool put(std::span<const std::uint8_t> packet);
  // Keeps the place of a packet that travels through the socket.
  bool putElsewhere();
  bool hasRoomFor(std::size_t size) const;

  // The next packet, into `packet`, which is resized to it.
  Taken take(std::vector<std::uint8_t>& packet);

  // The same in two steps: what comes next, of which size, and then the packet into room of just that size.
  struct Next {
    Taken kind;
    std::uint32_t size;
  };
  Next next() const;
  void takeInto(std::span<std::uint8_t> room);
  // Gives up the place of one that travels elsewhere.
  void skip();

  bool isEmpty() const { return written_.load() == taken_.load(); }
  // How many bytes wait in it.
  std::uint64_t backlog() const { return written_.load() - taken_.load(); }
  // Counts up with every packet that is taken.
  std::uint64_t takenSoFar() const { return taken_.load(); }

 private:
  static constexpr std::uint32_t kElsewhere = 0xffff'ffff;
  static constexpr std::size_t kMask = kSize - 1;
  static constexpr std::size_t kHeader = sizeof(std::uint64_t);
  static std::size_t footprint(std::size_t size) { return kHeader + ((size + kHeader - 1) & ~(kHeader - 1)); }
  void write(std::uint64_t at, std::span<const std::uint8_t> bytes);
  void read(std::uint64_t at, std::span<std::uint8_t> bytes) const;

  // In bytes since the beginning, so that a full ring is not taken for an empty one.
  alignas(64) std::atomic<std::uint64_t> written_{0};
  alignas(64) std::atomic<std::uint64_t> taken_{0};
  alignas(64) std::array<std::uint8_t, kSize> bytes_;
};
static_assert(std::atomic<std::uint64_t>::is_always_lock_free);

}  // namespace pkcs11ha
