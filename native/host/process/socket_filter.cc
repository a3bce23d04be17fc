#include "host/process/socket_filter.h"

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <vector>

namespace pkcs11ha {
namespace {

#if defined(__x86_64__)
constexpr std::uint32_t kArchitecture = AUDIT_ARCH_X86_64;
#elif defined(__aarch64__)
constexpr std::uint32_t kArchitecture = AUDIT_ARCH_AARCH64;
#else
constexpr std::uint32_t kArchitecture = 0;
#endif
// First number of the calls of x32, a second set of calls on x86-64.
constexpr std::uint32_t kX32 = 0x40000000;
constexpr std::uint32_t kDeny = SECCOMP_RET_ERRNO | EACCES;
constexpr std::uint32_t kFastOpen = 0x20000000;  // MSG_FASTOPEN
constexpr std::uint32_t kFastOpenConnect = 30;   // TCP_FASTOPEN_CONNECT
constexpr std::uint32_t kNumber = offsetof(seccomp_data, nr);

sock_filter load(std::uint32_t at) { return BPF_STMT(BPF_LD | BPF_W | BPF_ABS, at); }
sock_filter give(std::uint32_t what) { return BPF_STMT(BPF_RET | BPF_K, what); }
// Jumps skip that many instructions.
sock_filter ifEqual(long value, std::uint8_t then, std::uint8_t otherwise) {
  return BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<std::uint32_t>(value), then, otherwise);
}
sock_filter ifBit(std::uint32_t bit, std::uint8_t then, std::uint8_t otherwise) {
  return BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, bit, then, otherwise);
}
// Lower half of an argument, which is where both processors have it.
std::uint32_t argument(std::uint32_t index) { return offsetof(seccomp_data, args) + index * sizeof(std::uint64_t); }

// Program of the filter. Each block looks at one call, and ends in a refusal or goes on with the next block.
class Program {
 public:
  void add(std::initializer_list<sock_filter> instructions) {
    instructions_.insert(instructions_.end(), instructions);
  }
  void denyCall(long call) { add({load(kNumber), ifEqual(call, 0, 1), give(kDeny)}); }
  void denyFlag(long call, std::uint32_t index, std::uint32_t flag) {
    add({load(kNumber), ifEqual(call, 0, 3), load(argument(index)), ifBit(flag, 0, 1), give(kDeny)});
  }
  bool install() {
    add({give(SECCOMP_RET_ALLOW)});
    const sock_fprog program{static_cast<unsigned short>(instructions_.size()), instructions_.data()};
    return ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
  }

 private:
  std::vector<sock_filter> instructions_;
};

}  // namespace

bool filterSockets() {
  if (kArchitecture == 0) {
    errno = ENOTSUP;
    return false;
  }
  Program program;
  program.add({load(offsetof(seccomp_data, arch)), ifEqual(kArchitecture, 1, 0), give(SECCOMP_RET_KILL_PROCESS)});
  program.add({load(kNumber), BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, kX32, 0, 1), give(kDeny)});
  program.denyCall(SYS_listen);
  program.denyCall(SYS_io_uring_setup);
  program.denyFlag(SYS_sendto, 3, kFastOpen);
  program.denyFlag(SYS_sendmsg, 2, kFastOpen);
  program.denyFlag(SYS_sendmmsg, 3, kFastOpen);
  // setsockopt(socket, level, option, …)
  program.add({load(kNumber), ifEqual(SYS_setsockopt, 0, 5), load(argument(1)), ifEqual(IPPROTO_TCP, 0, 3),
               load(argument(2)), ifEqual(kFastOpenConnect, 0, 1), give(kDeny)});
  // socket(family, type, protocol)
  program.add({load(kNumber), ifEqual(SYS_socket, 0, 10), load(argument(0)), ifEqual(AF_UNIX, 8, 0),
               ifEqual(AF_NETLINK, 7, 0), ifEqual(AF_INET, 1, 0), ifEqual(AF_INET6, 0, 4), load(argument(2)),
               ifEqual(0, 3, 0), ifEqual(IPPROTO_TCP, 2, 0), ifEqual(IPPROTO_UDP, 1, 0), give(kDeny)});
  return program.install();
}

}  // namespace pkcs11ha
