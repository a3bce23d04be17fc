// Host processes that a worker would leave behind as zombies: libuv reaps a worker's children only while the
// worker lives, and the process goes on without it.
#pragma once

#include <napi.h>

#include <set>
#include <sys/types.h>

namespace pkcs11ha {

// One an environment, freed with it. Ends and reaps what is still noted when the environment ends.
class ChildReaper {
 public:
  static void install(Napi::Env env);
  ~ChildReaper();

  // JS: noteHost(pid) when a worker's host has started, forgetHost(pid) when libuv has reaped it.
  static void note(const Napi::CallbackInfo& info);
  static void forget(const Napi::CallbackInfo& info);

 private:
  std::set<pid_t> hosts_;
};

}  // namespace pkcs11ha
