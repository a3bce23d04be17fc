// The page that a host shares with its application: for every lane the job that has begun on it. It is how
// the host reports what has begun without a message a job, and it outlives a crash of the host.
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
  std::atomic<std::uint32_t> writing{0};  // 1: the job writes token objects
};
static_assert(sizeof(LaneSlot) == 64);
static_assert(std::atomic<std::uint64_t>::is_always_lock_free);

struct LanePage {
  std::array<LaneSlot, kMaxLanes> lanes;
};

}  // namespace pkcs11ha
