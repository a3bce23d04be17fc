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

#include "common/shutdown_signal.h"

namespace pkcs11ha {
namespace {

// Longer than a token in software takes for a write; one of hardware finishes it without its host.
constexpr auto kGrace = std::chrono::seconds(3);
constexpr auto kLook = std::chrono::milliseconds(1);

std::atomic<bool> leaving{false};

bool isWriting(const ChannelPage& page) {
  return std::any_of(page.lanes.begin(), page.lanes.end(), [](const LaneSlot& slot) {
    return slot.job.load() != 0 && slot.longWrite.load() != 0;
  });
}

sigset_t shutdownSignal() {
  sigset_t set;
  ::sigemptyset(&set);
  ::sigaddset(&set, kShutdownSignal);
  return set;
}

}  // namespace

void followParent(pid_t parent) {
  // Blocked in all threads, the library's too, it is there for the one that waits for it.
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

void startWatchdog(int socket, const ChannelPage& page) {
  std::thread([socket, &page] {
    // A host that stands still has to go on to hear of it. This signal belongs to the thread that asks for it.
    ::prctl(PR_SET_PDEATHSIG, SIGCONT);
    for (;;) {
      pollfd watched{socket, POLLRDHUP, 0};
      const int ready = ::poll(&watched, 1, -1);
      if (ready > 0 || (ready < 0 && errno != EINTR)) leave(page);
    }
  }).detach();
}

void leave(const ChannelPage& page) {
  leaving.store(true);
  std::atomic_thread_fence(std::memory_order_seq_cst);
  for (const auto until = std::chrono::steady_clock::now() + kGrace;
       isWriting(page) && std::chrono::steady_clock::now() < until;) {
    std::this_thread::sleep_for(kLook);
  }
  ::_exit(0);
}

bool isLeaving() {
  // Either this lane sees that the host leaves, or who leaves sees this lane's job.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  return leaving.load();
}

}  // namespace pkcs11ha
