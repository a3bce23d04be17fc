#include "addon/readiness.h"

namespace pkcs11ha {

Readiness::Readiness(Napi::Env env, Napi::Function callback, Readiness** owner)
    : env_(env), callback_(Napi::Persistent(callback)), context_(env, "pkcs11-ha.channel"), owner_(owner) {
  poll_.data = this;
}

Readiness* Readiness::open(Napi::Env env, int socket, Napi::Function callback, Readiness** owner) {
  uv_loop_t* loop = nullptr;
  if (napi_get_uv_event_loop(env, &loop) != napi_ok) throw Napi::Error::New(env, "this environment has no event loop");
  auto* readiness = new Readiness(env, callback, owner);
  if (uv_poll_init(loop, &readiness->poll_, socket) != 0) {
    delete readiness;
    throw Napi::Error::New(env, "uv_poll_init failed");
  }
  napi_add_async_cleanup_hook(env, onEnvironmentEnd, readiness, &readiness->hook_);
  uv_poll_start(&readiness->poll_, UV_READABLE | UV_DISCONNECT, onReadable);
  uv_unref(reinterpret_cast<uv_handle_t*>(&readiness->poll_));
  return readiness;
}

void Readiness::ref() { uv_ref(reinterpret_cast<uv_handle_t*>(&poll_)); }

void Readiness::unref() { uv_unref(reinterpret_cast<uv_handle_t*>(&poll_)); }

void Readiness::close() {
  if (closing_) return;
  closing_ = true;
  if (owner_ != nullptr) *owner_ = nullptr;
  owner_ = nullptr;
  uv_poll_stop(&poll_);
  uv_close(reinterpret_cast<uv_handle_t*>(&poll_), onClosed);
}

void Readiness::onClosed(uv_handle_t* handle) {
  auto* readiness = static_cast<Readiness*>(handle->data);
  napi_remove_async_cleanup_hook(readiness->hook_);
  delete readiness;
}

void Readiness::onEnvironmentEnd(napi_async_cleanup_hook_handle hook, void* data) {
  auto* readiness = static_cast<Readiness*>(data);
  readiness->callback_.Reset();
  readiness->close();
}

void Readiness::onReadable(uv_poll_t* poll, int status, int events) {
  auto* readiness = static_cast<Readiness*>(poll->data);
  if (readiness->closing_ || readiness->callback_.IsEmpty()) return;
  readiness->isReadable_ = true;
  Napi::Env env(readiness->env_);
  Napi::HandleScope scope(env);
  // Calls Node-API directly, because node-addon-api makes an error object on failure, and a worker that is being
  // terminated cannot make one.
  const napi_status result = napi_make_callback(env, readiness->context_, env.Global(), readiness->callback_.Value(), 0,
                                                nullptr, nullptr);
  napi_value exception = nullptr;
  if (result == napi_pending_exception && napi_get_and_clear_last_exception(env, &exception) == napi_ok) {
    napi_fatal_exception(env, exception);
  }
}

}  // namespace pkcs11ha
