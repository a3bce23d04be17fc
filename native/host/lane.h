// Lanes: threads that take jobs from the channel, each with a session of its own.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>

#include "common/channel_page.h"
#include "host/write_gate.h"
#include "host/held.h"
#include "host/module.h"
#include "host/pace.h"
#include "host/process/claims.h"
#include "host/process/token_lock.h"

namespace pkcs11ha {

// State that the lanes of a host share. Never destroyed, because lanes are not joined.
struct Host {
  int socket;
  ChannelPage* page;
  Module module{};
  HeldSessions held{module};
  Claims claims{};
  TokenLock tokenLock{};
  WriteGate gate{};
  std::atomic<std::uint32_t> lanes{0};
  std::atomic<std::uint32_t> epoch{0};
  Pace pace{};
  // True if a job arrived during the last spin.
  std::atomic<bool> isSteady{false};
  // Time since which replies wait to be announced (ns of CLOCK_MONOTONIC), or 0 if none waits.
  std::atomic<std::uint64_t> unannouncedSince{0};
  // Largest backlog of jobs since the last announcement (bytes).
  std::atomic<std::uint64_t> maxBacklog{0};
  // Time until which the working lanes do not count as enough, because they stalled (ns of CLOCK_MONOTONIC).
  std::atomic<std::uint64_t> stalledUntil{0};
  // Held by the lane that writes a reply.
  std::mutex replying{};
};

// Starts lanes until there are `count`.
void startLanes(Host& host, std::uint32_t count);

// Runs jobs on the calling thread; returns when the application's side has ended or the host shuts down.
void runLane(Host& host, LaneSlot& slot);

}  // namespace pkcs11ha
