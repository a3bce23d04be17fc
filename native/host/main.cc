// pkcs11-ha-host: the process that loads one member's PKCS#11 library and runs jobs on it.
//
//   pkcs11-ha-host PARENT     descriptor 3: the channel's socket, descriptor 4: the lane page
#include <cstdio>
#include <cstdlib>
#include <sys/mman.h>
#include <unistd.h>

#include "host/confinement.h"
#include "host/farewell.h"
#include "host/lane.h"

namespace {

constexpr int kSocket = 3;
constexpr int kLanePage = 4;

}  // namespace

int main(int count, char** arguments) {
  if (count != 2) {
    std::fprintf(stderr, "pkcs11-ha-host is started by pkcs11-ha, not by hand\n");
    return 2;
  }
  pkcs11ha::followParent(static_cast<pid_t>(std::strtol(arguments[1], nullptr, 10)));
  pkcs11ha::confine(kLanePage);
  void* page = ::mmap(nullptr, sizeof(pkcs11ha::LanePage), PROT_READ | PROT_WRITE, MAP_SHARED, kLanePage, 0);
  if (page == MAP_FAILED) {
    std::perror("pkcs11-ha-host: lane page");
    return 2;
  }
  ::close(kLanePage);
  auto* host = new pkcs11ha::Host{kSocket, static_cast<pkcs11ha::LanePage*>(page)};
  pkcs11ha::startWatchdog(kSocket, *host->page);
  pkcs11ha::startLanes(*host, 1);
  pkcs11ha::awaitFarewell(*host->page);
}
