#include "addon/child_reaper.h"

#include <ctime>
#include <sys/wait.h>

#include "common/shutdown_signal.h"

namespace pkcs11ha {
namespace {

// Maximum number of attempts to reap the hosts. A host usually ends within a few milliseconds; a host that writes for
// longer ends on its own and is not reaped.
constexpr int kMaxReapTries = 500;
// Pause between attempts (ns).
constexpr timespec kReapPause{0, 1'000'000};

pid_t pidOf(const Napi::CallbackInfo& info) {
  if (info.Length() != 1 || !info[0].IsNumber()) throw Napi::TypeError::New(info.Env(), "expected a process id");
  return static_cast<pid_t>(info[0].As<Napi::Number>().Int32Value());
}

}  // namespace

void ChildReaper::install(Napi::Env env) { env.SetInstanceData<ChildReaper>(new ChildReaper); }

ChildReaper::~ChildReaper() {
  // Drops hosts that have ended or were reaped already: their process ids may belong to other processes.
  std::erase_if(hosts_, [](pid_t host) { return ::waitpid(host, nullptr, WNOHANG) != 0; });
  // Sends the shutdown signal, not SIGKILL, so that a host finishes a write. SIGCONT lets a stopped host receive it.
  for (const pid_t host : hosts_) {
    ::kill(host, kShutdownSignal);
    ::kill(host, SIGCONT);
  }
  for (int tries = 0; !hosts_.empty() && tries < kMaxReapTries; ++tries) {
    for (auto host = hosts_.begin(); host != hosts_.end();) {
      host = ::waitpid(*host, nullptr, WNOHANG) == 0 ? std::next(host) : hosts_.erase(host);
    }
    if (!hosts_.empty()) ::nanosleep(&kReapPause, nullptr);
  }
}

void ChildReaper::note(const Napi::CallbackInfo& info) { info.Env().GetInstanceData<ChildReaper>()->hosts_.insert(pidOf(info)); }

void ChildReaper::forget(const Napi::CallbackInfo& info) { info.Env().GetInstanceData<ChildReaper>()->hosts_.erase(pidOf(info)); }

}  // namespace pkcs11ha
