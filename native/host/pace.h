// How a host's jobs have been going, and so how many lanes are to be at work beside each other.
#pragma once

#include <atomic>
#include <cstdint>
#include <sys/resource.h>

namespace pkcs11ha {

std::uint64_t monotonicNanoseconds();

class Pace {
 public:
  Pace();

  // Of one job, while it runs.
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

  // How long jobs have been taking, in nanoseconds.
  std::uint64_t usualTime() const { return usualTime_.load(std::memory_order_relaxed); }
  // More than that would only be in each other's way: jobs that wait for a device wait beside each other as many as there
  // are lanes, those that compute need processors, and the shortest are done sooner by one lane than handed to another.
  std::uint32_t mostAtWork() const;

 private:
  void note(std::uint64_t took);
  void noteWaiting(bool hasWaited);

  const std::uint32_t processors_;
  // In nanoseconds; and of 1024 jobs, how many wait for something. Unknown at first, and so taken for a device's.
  std::atomic<std::uint64_t> usualTime_{1'000'000};
  std::atomic<std::uint32_t> waiting_{1024};
  std::atomic<std::uint32_t> jobs_{0};
};

}  // namespace pkcs11ha
