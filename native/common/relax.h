// Between two looks at memory that another thread is about to write: lets the processor's other half go on.
#pragma once

namespace pkcs11ha {

inline void relax() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace pkcs11ha
