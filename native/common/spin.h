// Busy waiting for memory that another thread is about to write, for times shorter than a sleep and a wake-up.
#pragma once

#include <sched.h>

namespace pkcs11ha {

// Tells the processor that the thread spins.
inline void relax() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Calls `look` a few times, then yields the processor. Returns true as soon as `look` returns true. On machines that
// share processors, virtual ones above all, a longer spin takes processor time from the very thread it waits for.
template <typename Look>
bool lookOnce(Look&& look) {
  constexpr int kLooks = 20;
  for (int i = 0; i < kLooks; ++i) {
    if (look()) return true;
    relax();
  }
  ::sched_yield();
  return false;
}

}  // namespace pkcs11ha
