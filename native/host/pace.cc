#include "host/pace.h"

#include <algorithm>
#include <chrono>
#include <limits>
#include <sched.h>

namespace pkcs11ha {
namespace {

// Time that waking a thread takes, about (ns).
constexpr std::uint64_t kWakeUpTime = 60'000;
// Number of jobs that the moving averages cover, about.
constexpr std::uint64_t kAverageOver = 8;
// Number of jobs per sample of waiting; a sample takes two system calls.
constexpr std::uint32_t kSampleEvery = 8;

std::uint32_t usableProcessors() {
  cpu_set_t set;
  if (::sched_getaffinity(0, sizeof set, &set) != 0) return 1;
  return static_cast<std::uint32_t>(std::max(1, CPU_COUNT(&set)));
}

// Returns the number of times that this thread gave up the processor to wait.
long waitsOfThread() {
  rusage usage{};
  return ::getrusage(RUSAGE_THREAD, &usage) == 0 ? usage.ru_nvcsw : 0;
}

}  // namespace

std::uint64_t monotonicNanoseconds() {
  return static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch()).count());
}

Pace::Pace() : processors_(usableProcessors()) {}

Pace::Watch::Watch(Pace& pace)
    : pace_(pace),
      since_(monotonicNanoseconds()),
      isSample_(pace.jobs_.fetch_add(1, std::memory_order_relaxed) % kSampleEvery == 0) {
  if (isSample_) waits_ = waitsOfThread();
}

Pace::Watch::~Watch() {
  if (isSample_) pace_.noteWaiting(waitsOfThread() > waits_);
  pace_.note(monotonicNanoseconds() - since_);
}

std::uint32_t Pace::maxAtWork() const {
  if (usualTime_.load(std::memory_order_relaxed) < kWakeUpTime) return 1;
  if (waiting_.load(std::memory_order_relaxed) >= 512) return std::numeric_limits<std::uint32_t>::max();
  // Leaves half of the processors to the application and other hosts.
  return std::max(1U, processors_ / 2);
}

void Pace::note(std::uint64_t took) {
  const std::uint64_t usual = usualTime_.load(std::memory_order_relaxed);
  usualTime_.store(usual - usual / kAverageOver + took / kAverageOver, std::memory_order_relaxed);
}

void Pace::noteWaiting(bool hasWaited) {
  const std::uint32_t before = waiting_.load(std::memory_order_relaxed);
  waiting_.store(before - before / kAverageOver + (hasWaited ? 1024 / kAverageOver : 0), std::memory_order_relaxed);
}

}  // namespace pkcs11ha
