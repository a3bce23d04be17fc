#include "common/turn.h"

#include <ctime>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace pkcs11ha {
namespace {

// Shared, not private: the two sides are two processes.
long futex(std::atomic<std::uint32_t>& word, int operation, std::uint32_t value, const timespec* limit) {
  return ::syscall(SYS_futex, reinterpret_cast<std::uint32_t*>(&word), operation, value, limit, nullptr, 0);
}

}  // namespace

void Turn::wake() {
  if (waking_.exchange(1) != 0) return;
  wakes_.fetch_add(1);
  futex(wakes_, FUTEX_WAKE, 1, nullptr);
}

void Turn::park(std::uint32_t ticket, std::uint32_t nanoseconds) {
  const timespec limit{0, static_cast<long>(nanoseconds)};
  futex(wakes_, FUTEX_WAIT, ticket, nanoseconds == 0 ? nullptr : &limit);
}

}  // namespace pkcs11ha
