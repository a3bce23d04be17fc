// Callback to JavaScript when a socket becomes readable, by libuv's poll: needs no thread.
#pragma once

#include <napi.h>
#include <uv.h>

#include <utility>

namespace pkcs11ha {

// Poll handle on the heap; deletes itself once libuv has closed the handle. Closed by its owner or by the end of the
// environment (a worker that stops), whichever comes first. Closing sets `*owner` to null.
class Readiness {
 public:
  static Readiness* open(Napi::Env env, int socket, Napi::Function callback, Readiness** owner);
  void ref();
  void unref();
  void close();
  // Returns true if the socket has become readable since the last call.
  bool takeReadable() { return std::exchange(isReadable_, false); }

 private:
  Readiness(Napi::Env env, Napi::Function callback, Readiness** owner);
  static void onReadable(uv_poll_t* poll, int status, int events);
  static void onClosed(uv_handle_t* handle);
  static void onEnvironmentEnd(napi_async_cleanup_hook_handle hook, void* data);

  napi_env env_;
  uv_poll_t poll_{};
  Napi::FunctionReference callback_;
  Napi::AsyncContext context_;
  napi_async_cleanup_hook_handle hook_ = nullptr;
  Readiness** owner_;
  bool closing_ = false;
  bool isReadable_ = false;
};

}  // namespace pkcs11ha
