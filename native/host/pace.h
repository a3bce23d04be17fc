// Measurement of a host's jobs, which decides how many lanes work at the same time.
#pragma once

#include <atomic>
#include <cstdint>
#include <sys/resource.h>

namespace pkcs11ha {

// Returns the time of CLOCK_MONOTONIC (ns).
std::uint64_t monotonicNanoseconds();

class Pace {
 public:
  Pace();

  // Measurement of one job, from construction to destruction.
  class Watch {
   public:
    explicit Watch(Pace& pace);
    ~Watch();
    Watch(const Watch&) = delete;
    Watch& operator=(const Watch&) = delete;

   private:
    Pace& pace_;
    const std::uint64_t since_;
    const bool isSample_;
    long waits_ = 0;
  };

  // Moving average of the jobs' times (ns).
  std::uint64_t usualTime() const { return usualTime_.load(std::memory_order_relaxed); }
  // Returns the number of lanes that are of use at the same time. Jobs that wait for a device run on all lanes. Jobs
  // that compute run on half of the processors. Jobs shorter than a wake-up run on one lane.
  std::uint32_t maxAtWork() const;

 private:
  void note(std::uint64_t took);
  void noteWaiting(bool hasWaited);

  const std::uint32_t processors_;
  // Moving average of the jobs' times (ns). Starts as that of a device, because it is unknown at first.
  std::atomic<std::uint64_t> usualTime_{1'000'000};
  // Share of jobs that waited for something, in 1024ths. Starts as that of a device.
  std::atomic<std::uint32_t> waiting_{1024};
  // Number of jobs so far.
  std::atomic<std::uint32_t> jobs_{0};
};

}  // namespace pkcs11ha
