// Packets in memory that both processes see, for one direction of the channel. One side writes, the other side takes;
// if a side has several threads, only one of them uses the ring at a time.
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
  // Capacity (bytes), a power of two.
  static constexpr std::size_t kSize = std::size_t{1} << 16;
  // Kind of the next entry. onSocket: the packet comes through the socket. broken: the other side wrote an impossible
  // size, or the packet does not have its checksum, so the ring's content cannot be trusted any more.
  enum class Taken { nothing, packet, onSocket, broken };

  // Appends a packet. Returns false if there is no room.
  bool put(std::span<const std::uint8_t> packet);
  // Appends a mark for a packet that travels through the socket, which keeps the order of packets.
  bool putSocketMark();
  bool hasRoomFor(std::size_t size) const;

  // Takes the next packet into `packet` and resizes `packet` to it.
  Taken take(std::vector<std::uint8_t>& packet);

  // Takes a packet in two steps: `next` returns kind and size, `takeInto` takes the packet into room of that size.
  // `takeInto` returns false if the packet does not have its checksum: something else has written into the memory.
  struct Next {
    Taken kind;
    std::uint32_t size;
  };
  Next next() const;
  bool takeInto(std::span<std::uint8_t> room);
  // Removes the mark of a packet that travels through the socket.
  void skip();

  bool isEmpty() const { return written_.load() == taken_.load(); }
  // Number of bytes that wait to be taken.
  std::uint64_t backlog() const { return written_.load() - taken_.load(); }
  // Number of bytes taken since the beginning; grows with every packet taken.
  std::uint64_t takenSoFar() const { return taken_.load(); }

 private:
  static constexpr std::uint32_t kOnSocket = 0xffff'ffff;
  static constexpr std::size_t kMask = kSize - 1;
  // Header of an entry: size of the packet, and its checksum.
  struct Header {
    std::uint32_t size;
    std::uint32_t checksum;
  };
  static constexpr std::size_t kHeader = sizeof(Header);
  static_assert(kHeader == sizeof(std::uint64_t));
  static std::size_t footprint(std::size_t size) { return kHeader + ((size + kHeader - 1) & ~(kHeader - 1)); }
  void write(std::uint64_t at, std::span<const std::uint8_t> bytes);
  void read(std::uint64_t at, std::span<std::uint8_t> bytes) const;
  void writeHeader(std::uint64_t at, const Header& header);
  Header headerAt(std::uint64_t at) const;

  // Number of bytes written and taken since the beginning, so that a full ring differs from an empty one.
  alignas(64) std::atomic<std::uint64_t> written_{0};
  alignas(64) std::atomic<std::uint64_t> taken_{0};
  alignas(64) std::array<std::uint8_t, kSize> bytes_;
};
static_assert(std::atomic<std::uint64_t>::is_always_lock_free);

}  // namespace pkcs11ha
