// The memory that a host shares with its application: the packets under way in both directions, who waits for them,
// and for every lane the job that has begun on it. So the host reports what has begun without a message a job, and
// that outlives a crash of the host.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "common/ring.h"
#include "common/lane_scheduler.h"

namespace pkcs11ha {

constexpr std::size_t kMaxLanes = 64;

struct alignas(64) LaneSlot {
  std::atomic<std::uint64_t> job{0};      // 0: idle
  std::atomic<std::uint64_t> since{0};    // CLOCK_MONOTONIC, nanoseconds
  std::atomic<std::uint32_t> longWrite{0};  // 1: the job writes token objects or makes keys, and may take longer
};
static_assert(sizeof(LaneSlot) == 64);

struct ChannelPage {
  LaneScheduler scheduler;
  std::array<LaneSlot, kMaxLanes> lanes;
  // The application is not looking: the next reply comes with a bell through the socket.
  alignas(64) std::atomic<std::uint32_t> wantsBell{1};
  Ring jobs;
  Ring replies;
};

}  // namespace pkcs11ha
