// Choice of the lane that takes the next job, and waking of parked lanes.
#pragma once

#include <atomic>
#include <cstdint>

namespace pkcs11ha {

// State of a host's lanes, in shared memory. At most one lane listens; the others work or are parked. No lane is woken
// while one listens, or while enough lanes work and will come back for the next job: waking a thread can take longer
// than a job.
//
// A lane checks the ring once more after it has declared that it waits; a sender checks for waiting lanes after it has
// put a packet into the ring. At least one of the two therefore sees the other.
class alignas(64) LaneScheduler {
 public:
  // Returns false if another lane is listening.
  bool tryListen() {
    std::uint32_t none = 0;
    return listening_.compare_exchange_strong(none, 1);
  }
  void stopListening() { listening_.store(0); }

  void beginWork() { working_.fetch_add(1); }
  void endWork() { working_.fetch_sub(1); }

  // Sets the number of working lanes that suffices: at that number no further lane takes jobs.
  void setEnough(std::uint32_t lanes) { enough_.store(lanes, std::memory_order_relaxed); }
  bool isEnough() const { return working_.load() >= enough_.load(std::memory_order_relaxed); }

  // Makes the caller the guard: the lane that checks at intervals whether the working lanes still take jobs. Returns
  // false if another lane guards.
  bool tryGuard() {
    std::uint32_t none = 0;
    return guarding_.compare_exchange_strong(none, 1);
  }
  void stopGuarding() { guarding_.store(0); }
  bool isGuarded() const { return guarding_.load() != 0; }

  // Wakes a lane unless one listens, or enough lanes work under a guard. Called after a packet was put into the ring.
  void wakeIfNeeded() {
    if (listening_.load() == 0 && !(isEnough() && isGuarded())) wake();
  }

  // Returns the number to park with. `park` blocks unless a lane was woken after that number was taken.
  std::uint32_t ticket() {
    waking_.store(0);
    return wakes_.load();
  }
  void park(std::uint32_t ticket);

 private:
  void wake();

  std::atomic<std::uint32_t> listening_{0};
  std::atomic<std::uint32_t> working_{0};
  std::atomic<std::uint32_t> enough_{0xffff'ffff};
  std::atomic<std::uint32_t> guarding_{0};
  std::atomic<std::uint32_t> wakes_{0};
  // 1 from the waking of a lane until a lane takes a ticket; no second lane is woken meanwhile.
  std::atomic<std::uint32_t> waking_{0};
};
static_assert(std::atomic<std::uint32_t>::is_always_lock_free);

}  // namespace pkcs11ha
