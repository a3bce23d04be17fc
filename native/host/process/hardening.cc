#include "host/process/hardening.h"

#include <csignal>
#include <fcntl.h>
#include <initializer_list>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace pkcs11ha {
namespace {

void closeFrom(int first) {
#ifdef SYS_close_range
  if (::syscall(SYS_close_range, first, ~0U, 0) == 0) return;
#endif
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  const int last = limit.rlim_cur > 65536 ? 65536 : static_cast<int>(limit.rlim_cur);
  for (int fd = first; fd < last; ++fd) ::close(fd);
}

void setFlag(int fd, int get, int set, int flag) {
  const int flags = ::fcntl(fd, get);
  if (flags >= 0) ::fcntl(fd, set, flags | flag);
}

}  // namespace

void harden(int lastDescriptor) {
  ::prctl(PR_SET_DUMPABLE, 0);
  ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  const rlimit none{0, 0};
  ::setrlimit(RLIMIT_CORE, &none);
  closeFrom(lastDescriptor + 1);
  for (int fd = 3; fd <= lastDescriptor; ++fd) setFlag(fd, F_GETFD, F_SETFD, FD_CLOEXEC);
  for (const int fd : {STDOUT_FILENO, STDERR_FILENO}) setFlag(fd, F_GETFL, F_SETFL, O_NONBLOCK);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGPIPE}) ::signal(signal, SIG_IGN);
}

}  // namespace pkcs11ha
