#include "host/process/sandbox.h"

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <optional>
#include <string_view>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/descriptor.h"
#include "host/process/socket_filter.h"

namespace pkcs11ha {
namespace {

// Landlock's interface (landlock(7)). Written out, since the headers of older systems lack a part of it or all of it.
constexpr long kCreateRuleset = 444;
constexpr long kAddRule = 445;
constexpr long kRestrictSelf = 446;
constexpr std::uint32_t kAskVersion = 1;
constexpr int kPathRule = 1;
constexpr int kPortRule = 2;
constexpr std::uint64_t kExecute = 1 << 0;
constexpr std::uint64_t kWriteFile = 1 << 1;
constexpr std::uint64_t kReadFile = 1 << 2;
constexpr std::uint64_t kReadFolder = 1 << 3;
constexpr std::uint64_t kRefer = 1 << 13;       // Version 2
constexpr std::uint64_t kTruncate = 1 << 14;    // Version 3
constexpr std::uint64_t kDeviceIoctl = 1 << 15; // Version 5
constexpr std::uint64_t kBind = 1 << 0;         // Version 4
constexpr std::uint64_t kConnect = 1 << 1;      // Version 4
constexpr std::uint64_t kAbstractSockets = 1 << 0;  // Version 6
constexpr std::uint64_t kSignals = 1 << 1;          // Version 6
constexpr std::uint64_t kReading = kExecute | kReadFile | kReadFolder;
constexpr std::uint64_t kLocking = kWriteFile | kReadFile | kReadFolder;
constexpr std::uint64_t kOnFiles = kExecute | kWriteFile | kReadFile | kTruncate | kDeviceIoctl;

struct Ruleset {
  std::uint64_t files;
  std::uint64_t ports;
  std::uint64_t scopes;
};
struct [[gnu::packed]] PathRule {
  std::uint64_t allowed;
  std::int32_t folder;
};
struct PortRule {
  std::uint64_t allowed;
  std::uint64_t port;
};

// Paths that libraries read or write on every system. A host sees itself alone of /proc, and of /etc what the loader,
// names and certificates need: programs keep secrets there.
constexpr const char* kReadable[] = {
    "/usr", "/lib", "/lib32", "/lib64", "/bin", "/sbin", "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d",
    "/etc/nsswitch.conf", "/etc/resolv.conf", "/etc/hosts", "/etc/host.conf", "/etc/gai.conf", "/etc/services",
    "/etc/protocols", "/etc/localtime", "/etc/timezone", "/etc/passwd", "/etc/group", "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf", "/etc/pki/tls", "/etc/pki/ca-trust", "/etc/ca-certificates", "/etc/crypto-policies",
    "/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/version", "/proc/sys/kernel",
    "/proc/sys/crypto", "/proc/sys/vm", "/sys/devices/system", "/run/systemd/resolve"};
constexpr const char* kWritable[] = {"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"};

[[noreturn]] void giveUp(int code, const char* what, const char* path = "") {
  std::fprintf(stderr, "pkcs11-ha-host: sandbox: %s%s: %s\n", what, path, std::strerror(errno));
  ::_exit(code);
}

std::optional<const char*> valueOf(const char* argument, std::string_view name) {
  if (std::string_view(argument).substr(0, name.size()) != name) return std::nullopt;
  return argument + name.size();
}

// Rights that each version of Landlock knows: a right that the kernel does not know is an error.
std::uint64_t fileRights(long version) {
  std::uint64_t rights = kRefer - 1;
  if (version >= 2) rights |= kRefer;
  if (version >= 3) rights |= kTruncate;
  if (version >= 5) rights |= kDeviceIoctl;
  return rights;
}

// Allows rights below a path. Returns false if the path cannot be opened.
bool allowPath(int ruleset, const char* path, std::uint64_t rights) {
  const Descriptor place(::open(path, O_PATH | O_CLOEXEC));
  struct stat info {};
  if (!place || ::fstat(place.get(), &info) != 0) return false;
  if (!S_ISDIR(info.st_mode)) rights &= kOnFiles;
  const PathRule rule{rights, place.get()};
  return ::syscall(kAddRule, ruleset, kPathRule, &rule, 0) == 0;
}

void allowPorts(int ruleset, const char* list) {
  for (char* rest = nullptr; *list != '\0'; list = *rest == ',' ? rest + 1 : rest) {
    const PortRule rule{kConnect, std::strtoul(list, &rest, 10)};
    if (rest == list || ::syscall(kAddRule, ruleset, kPortRule, &rule, 0) != 0) giveUp(kNoSandbox, "connect ", list);
  }
}

}  // namespace

void confine(std::span<char*> arguments) {
  bool isWanted = false;
  const char* ports = nullptr;
  for (const char* argument : arguments) {
    if (std::string_view(argument) == "--sandbox") isWanted = true;
    if (const auto list = valueOf(argument, "--connect=")) ports = *list;
  }
  if (!isWanted) return;
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) giveUp(kNoSandbox, "no_new_privs");
  const long version = ::syscall(kCreateRuleset, nullptr, 0, kAskVersion);
  if (version < 1) giveUp(kNoSandbox, "this kernel has no Landlock");
  if (ports != nullptr && version < 4) {
    errno = ENOTSUP;
    giveUp(kNoSandbox, "this kernel's Landlock knows no ports");
  }
  const std::uint64_t files = fileRights(version);
  const Ruleset rights{files, ports == nullptr ? 0 : kBind | kConnect, kAbstractSockets | kSignals};
  const std::size_t size = version >= 6 ? sizeof rights : version >= 4 ? offsetof(Ruleset, scopes) : sizeof files;
  const Descriptor ruleset(static_cast<int>(::syscall(kCreateRuleset, &rights, size, 0)));
  if (!ruleset) giveUp(kNoSandbox, "landlock_create_ruleset");
  // A system does not have all of these paths.
  for (const char* path : kReadable) (void)allowPath(ruleset.get(), path, kReading);
  for (const char* path : kWritable) (void)allowPath(ruleset.get(), path, files & ~kExecute);
  for (const char* argument : arguments) {
    if (const auto path = valueOf(argument, "--read="); path && !allowPath(ruleset.get(), *path, kReading))
      giveUp(kNoSandboxPath, "", *path);
    if (const auto path = valueOf(argument, "--lock="); path && !allowPath(ruleset.get(), *path, kLocking))
      giveUp(kNoSandboxPath, "", *path);
    if (const auto path = valueOf(argument, "--write="); path && !allowPath(ruleset.get(), *path, files & ~kExecute))
      giveUp(kNoSandboxPath, "", *path);
  }
  if (ports != nullptr) allowPorts(ruleset.get(), ports);
  if (ports != nullptr && !filterSockets()) giveUp(kNoSandbox, "seccomp");
  if (::syscall(kRestrictSelf, ruleset.get(), 0) != 0)
    giveUp(kNoSandbox, "landlock_restrict_self");
}

}  // namespace pkcs11ha
