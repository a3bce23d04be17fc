#include "common/lane_scheduler.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace pkcs11ha {
namespace {

// Calls futex(2) without FUTEX_PRIVATE_FLAG, because application and host are two processes.
long futex(std::atomic<std::uint32_t>& word, int operation, std::uint32_t value) {
  return ::syscall(SYS_futex, reinterpret_cast<std::uint32_t*>(&word), operation, value, nullptr, nullptr, 0);
}

}  // namespace

void LaneScheduler::wake() {
  if (waking_.exchange(1) != 0) return;
  wakes_.fetch_add(1);
  futex(wakes_, FUTEX_WAKE, 1);
}

void LaneScheduler::park(std::uint32_t ticket) { futex(wakes_, FUTEX_WAIT, ticket); }

}  // namespace pkcs11ha
