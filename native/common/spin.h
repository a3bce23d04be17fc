// Waiting for memory that another thread is about to write, for moments that are shorter than it takes to sleep and be
// woken.
#pragma once

#include <sched.h>

namespace pkcs11ha {

inline void relax() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Looks a few times, and lets others that want the processor in front. Machines that share processors, virtual ones
// above all, take more than that ill: who only looks takes as much from the one it waits for as who computes.
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
