// Reaping of the hosts of a worker thread. libuv reaps a worker's children only while the worker lives; without this
// class they would stay zombies until the process ends.
#pragma once

#include <napi.h>

#include <set>
#include <sys/types.h>

namespace pkcs11ha {

// Instance data of an environment. Its destructor runs at the environment's end, and ends and reaps the hosts still
// noted.
class ChildReaper {
 public:
  static void install(Napi::Env env);
  ~ChildReaper();

  // Implements noteHost(pid), called when a worker's host has started, and forgetHost(pid), called when libuv has
  // reaped the host.
  static void note(const Napi::CallbackInfo& info);
  static void forget(const Napi::CallbackInfo& info);

 private:
  std::set<pid_t> hosts_;
};

}  // namespace pkcs11ha
