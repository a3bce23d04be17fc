// Memory that a host shares with its application: a ring of packets each way, the lane scheduler, and the job that
// each lane runs. The host reports begun jobs without a message per job, and the report survives a crash of the host.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "common/ring.h"
#include "common/lane_scheduler.h"

namespace pkcs11ha {

// Maximum number of lanes of a host.
constexpr std::size_t kMaxLanes = 64;

// Job that a lane runs, in a cache line of its own.
struct alignas(64) LaneSlot {
  std::atomic<std::uint64_t> job{0};        // Number of the job; 0 while the lane is idle
  std::atomic<std::uint64_t> since{0};      // Start of the job (ns of CLOCK_MONOTONIC)
  std::atomic<std::uint32_t> longWrite{0};  // 1 if the job writes token objects or makes keys, and may take longer
};
static_assert(sizeof(LaneSlot) == 64);

struct ChannelPage {
  LaneScheduler scheduler;
  std::array<LaneSlot, kMaxLanes> lanes;
  // 1 while the application does not look at the ring of replies; the next reply then rings the bell of the socket.
  alignas(64) std::atomic<std::uint32_t> wantsBell{1};
  Ring jobs;
  Ring replies;
};

}  // namespace pkcs11ha
