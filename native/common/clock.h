// Clock that goes on while the machine is suspended, for times that several processes compare.
#pragma once

#include <cstdint>
#include <ctime>

namespace pkcs11ha {

// Returns the time of CLOCK_BOOTTIME (ns).
inline std::uint64_t bootNanoseconds() {
  timespec time{};
  ::clock_gettime(CLOCK_BOOTTIME, &time);
  return static_cast<std::uint64_t>(time.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(time.tv_nsec);
}

}  // namespace pkcs11ha
