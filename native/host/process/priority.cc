#include "host/process/priority.h"

#include <cstdlib>
#include <dirent.h>
#include <memory>
#include <sched.h>

namespace pkcs11ha {

void giveWay(bool gives) {
  // Changes the policy, not the nice value: a process without privileges cannot raise its priority again.
  const sched_param none{};
  const auto close = [](DIR* directory) { ::closedir(directory); };
  const std::unique_ptr<DIR, decltype(close)> threads(::opendir("/proc/self/task"), close);
  if (threads == nullptr) return;
  while (const dirent* entry = ::readdir(threads.get())) {
    const long thread = std::strtol(entry->d_name, nullptr, 10);
    if (thread > 0) ::sched_setscheduler(static_cast<pid_t>(thread), gives ? SCHED_BATCH : SCHED_OTHER, &none);
  }
}

}  // namespace pkcs11ha
