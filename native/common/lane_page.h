// The page that a host shares with its application: for every lane the job that has begun on it. It is how
// the host reports what has begun without a message a job, and it outlives a crash of the host. Besides it
// says whether a lane is listening on the socket, so that the application wakes one when none is.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace pkcs11ha {

constexpr std::size_t kMaxLanes = 64;

struct alignas(64) LaneSlot {
  std::atomic<std::uint64_t> job{0};      // 0: idle
  std::atomic<std::uint64_t> since{0};    // CLOCK_MONOTONIC, nanoseconds
  std::atomic<std::uint32_t> patient{0};  // 1: the job writes token objects or makes keys, and may take longer
};
static_assert(sizeof(LaneSlot) == 64);
static_assert(std::atomic<std::uint64_t>::is_always_lock_free);

// At most one lane listens; idle ones park. A lane that takes a packet stops listening: whoever sends the next
// one then sees that nobody is, and wakes a parked lane. So a caller that waits for each reply costs no
// wake-up at all, since the lane that answered is the one that listens again.
class alignas(64) Turn {
 public:
  // False when another lane is listening already.
  bool tryListen() {
    std::uint32_t none = 0;
    return listening_.compare_exchange_strong(none, 1);
  }
  void stopListening() { listening_.store(0); }

  // The sender's side, after a packet was sent.
  void wakeIfNobodyListens() {
    if (listening_.load() == 0) wake();
  }
  void wake();

  // Parks until `wake` has been called since `ticket` was taken.
  std::uint32_t ticket() const { return wakes_.load(); }
  void park(std::uint32_t ticket);

 private:
  std::atomic<std::uint32_t> listening_{0};
  std::atomic<std::uint32_t> wakes_{0};
};
static_assert(std::atomic<std::uint32_t>::is_always_lock_free);

struct LanePage {
  Turn turn;
  std::array<LaneSlot, kMaxLanes> lanes;
};

}  // namespace pkcs11ha
