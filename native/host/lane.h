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

namespace pkcs11ha {

// What the lanes of a host share. Never destroyed: lanes are not joined, and a library that calls exit()
// must not find its host half gone.
struct Host {
  int socket;
  ChannelPage* page;
  Module module{};
  HeldSessions held{module};
  WriteGate gate{};
  std::atomic<std::uint32_t> lanes{0};
  std::atomic<std::uint32_t> epoch{0};
  Pace pace{};
  // The last that a lane lingered for has come in time.
  std::atomic<bool> isSteady{false};
  // Since when replies wait to be told of, in nanoseconds; 0 where none does.
  std::atomic<std::uint64_t> untoldSince{0};
  // The most that has waited in the ring since the application was last told, in bytes.
  std::atomic<std::uint64_t> mostBacklog{0};
  // Until then lanes at work are not counted on to come back: one of them has not (in nanoseconds).
  std::atomic<std::uint64_t> stalledUntil{0};
  // The turn of the lane that writes a reply.
  std::mutex replying{};
};

// Starts lanes until there are `count`.
void startLanes(Host& host, std::uint32_t count);

// The work of one lane; returns when there is nobody to work for any more.
void runLane(Host& host, LaneSlot& slot);

}  // namespace pkcs11ha
