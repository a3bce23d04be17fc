#include "host/process/shutdown.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <poll.h>
#include <sys/prctl.h>
#include <thread>
#include <unistd.h>

#include "common/clock.h"
#include "common/shutdown_signal.h"

namespace pkcs11ha {
namespace {

// Maximum time that a shutdown waits for writes: longer than a software token takes for one. A hardware token finishes
// a write without its host.
constexpr auto kGrace = std::chrono::seconds(3);
// Interval between checks for writes.
constexpr auto kPollInterval = std::chrono::milliseconds(1);
// Interval between checks for expired claims (ms); without a claim that can expire there are no checks.
constexpr int kClaimInterval = 250;

std::atomic<bool> leaving{false};

bool isWriting(const ChannelPage& page) {
  return std::any_of(page.lanes.begin(), page.lanes.end(), [](const LaneSlot& slot) {
    return slot.job.load() != 0 && slot.longWrite.load() != 0;
  });
}

// Gives up the claims that were dropped or have expired, unless a lane writes. The clock is read before the page: a
// write that began before its deadline, and so before a claim's expiry, is on the page by then.
void checkClaims(Claims& claims, const ChannelPage& page) {
  const std::uint64_t now = bootNanoseconds();
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (!isWriting(page)) claims.dropEnded(now);
}

sigset_t shutdownSignal() {
  sigset_t set;
  ::sigemptyset(&set);
  ::sigaddset(&set, kShutdownSignal);
  return set;
}

}  // namespace

void followParent(pid_t parent) {
  // Blocks the signal in all threads, the library's too, so that awaitShutdown receives it.
  const sigset_t set = shutdownSignal();
  ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
  ::prctl(PR_SET_PDEATHSIG, kShutdownSignal);
  if (::getppid() != parent) ::_exit(0);
}

void awaitShutdown(const ChannelPage& page) {
  const sigset_t set = shutdownSignal();
  for (int signal = 0; ::sigwait(&set, &signal) != 0;) {
  }
  leave(page);
}

void startWatchdog(int socket, const ChannelPage& page, Claims& claims) {
  std::thread([socket, &page, &claims] {
    ::prctl(PR_SET_NAME, "watchdog");
    // Requests SIGCONT too, so that a stopped host continues and notices the parent's end. The setting is per thread.
    ::prctl(PR_SET_PDEATHSIG, SIGCONT);
    for (;;) {
      pollfd watched[] = {{socket, POLLRDHUP, 0}, {claims.additions(), POLLIN, 0}};
      const int ready = ::poll(watched, 2, claims.mayEnd() ? kClaimInterval : -1);
      if (ready < 0 && errno != EINTR) leave(page);
      // Shuts down as well if a library has closed the host's descriptors.
      if (ready > 0 && (watched[0].revents != 0 || (watched[1].revents & ~POLLIN) != 0)) leave(page);
      if (ready > 0) claims.takeAdditions();
      checkClaims(claims, page);
    }
  }).detach();
}

void leave(const ChannelPage& page) {
  leaving.store(true);
  std::atomic_thread_fence(std::memory_order_seq_cst);
  for (const auto until = std::chrono::steady_clock::now() + kGrace;
       isWriting(page) && std::chrono::steady_clock::now() < until;) {
    std::this_thread::sleep_for(kPollInterval);
  }
  ::_exit(0);
}

bool isLeaving() {
  // With the fence in leave(): either this lane sees that the host shuts down, or leave() sees this lane's job.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  return leaving.load();
}

}  // namespace pkcs11ha
