// pkcs11-ha-host: the process that loads one member's PKCS#11 library and runs jobs on it.
//
//   pkcs11-ha-host PARENT [SANDBOX…]     descriptor 3: the channel's socket; descriptor 4: the shared memory;
//                                        SANDBOX: see host/process/sandbox.h
#include <cstdio>
#include <cstdlib>
#include <sys/mman.h>
#include <unistd.h>

#include "host/process/hardening.h"
#include "host/process/sandbox.h"
#include "host/process/shutdown.h"
#include "host/lane.h"

namespace {

constexpr int kSocket = 3;
constexpr int kPage = 4;

}  // namespace

// Takes the place of libc's exit() for the library too. Ends the host without exit handlers and destructors: they would
// free what other lanes still use.
extern "C" __attribute__((noreturn)) void exit(int status) noexcept { ::_exit(status); }

int main(int count, char** arguments) {
  if (count < 2) {
    std::fprintf(stderr, "pkcs11-ha-host: pkcs11-ha starts this program; do not start it by hand\n");
    return 2;
  }
  pkcs11ha::followParent(static_cast<pid_t>(std::strtol(arguments[1], nullptr, 10)));
  pkcs11ha::harden(kPage);
  pkcs11ha::confine({arguments + 2, arguments + count});
  void* page = ::mmap(nullptr, sizeof(pkcs11ha::ChannelPage), PROT_READ | PROT_WRITE, MAP_SHARED, kPage, 0);
  if (page == MAP_FAILED) {
    std::perror("pkcs11-ha-host: cannot map the shared memory");
    return 2;
  }
  ::close(kPage);
  auto* host = new pkcs11ha::Host{kSocket, static_cast<pkcs11ha::ChannelPage*>(page)};
  pkcs11ha::startWatchdog(kSocket, *host->page, host->claims);
  pkcs11ha::startLanes(*host, 1);
  pkcs11ha::awaitShutdown(*host->page);
}
