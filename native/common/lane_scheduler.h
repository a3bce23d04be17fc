// Which lane of a host takes the next job, and who wakes one.
#pragma once

#include <atomic>
#include <cstdint>

namespace pkcs11ha {

// At most one lane listens; the others are at work, or park. Nobody is woken while a lane listens, nor while enough of
// them are at work and will come back for more, for waking a thread costs more than many a job.
//
// Whoever waits for something looks at it once more after having said so, and whoever brings something looks for who
// waits after having put it there: one of the two sees the other.
class alignas(64) LaneScheduler {
 public:
  // False when another lane is listening already.
  bool tryListen() {
    std::uint32_t none = 0;
    return listening_.compare_exchange_strong(none, 1);
  }
  void stopListening() { listening_.store(0); }

  void beginWork() { working_.fetch_add(1); }
  void endWork() { working_.fetch_sub(1); }

  // So many lanes at work are enough.
  void setEnough(std::uint32_t lanes) { enough_.store(lanes, std::memory_order_relaxed); }
  bool isEnough() const { return working_.load() >= enough_.load(std::memory_order_relaxed); }

  // The lane that looks now and then, in case those at work do not come back, and somebody has to take what waits.
  bool tryGuard() {
    std::uint32_t none = 0;
    return guarding_.compare_exchange_strong(none, 1);
  }
  void stopGuarding() { guarding_.store(0); }
  bool isGuarded() const { return guarding_.load() != 0; }

  // After something was put where it waits for a lane.
  void wakeIfNobodyComes() {
    if (listening_.load() == 0 && !(isEnough() && isGuarded())) wake();
  }

  // Parks until somebody has woken a lane since `ticket` was taken.
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
  // A lane has been woken and has not looked yet: one is enough.
  std::atomic<std::uint32_t> waking_{0};
};
static_assert(std::atomic<std::uint32_t>::is_always_lock_free);

}  // namespace pkcs11ha
