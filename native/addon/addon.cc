#include <napi.h>

#include "addon/channel.h"
#include "addon/claim.h"
#include "addon/child_reaper.h"
#include "addon/file_lock.h"
#include "addon/process.h"
#include "addon/secret.h"

namespace {

Napi::Object initialise(Napi::Env env, Napi::Object exports) {
  pkcs11ha::ChildReaper::install(env);
  exports["Channel"] = pkcs11ha::Channel::define(env);
  exports["Secret"] = pkcs11ha::Secret::define(env);
  exports["waitReadable"] = Napi::Function::New(env, pkcs11ha::waitReadable, "waitReadable");
  exports["claim"] = Napi::Function::New(env, pkcs11ha::claim, "claim");
  exports["releaseClaim"] = Napi::Function::New(env, pkcs11ha::releaseClaim, "releaseClaim");
  exports["lockByte"] = Napi::Function::New(env, pkcs11ha::lockByte, "lockByte");
  exports["isByteLocked"] = Napi::Function::New(env, pkcs11ha::isByteLocked, "isByteLocked");
  exports["bootTime"] = Napi::Function::New(env, pkcs11ha::bootTime, "bootTime");
  exports["pipe"] = Napi::Function::New(env, pkcs11ha::pipe, "pipe");
  exports["processEnd"] = Napi::Function::New(env, pkcs11ha::processEnd, "processEnd");
  exports["noteHost"] = Napi::Function::New(env, pkcs11ha::ChildReaper::note, "noteHost");
  exports["forgetHost"] = Napi::Function::New(env, pkcs11ha::ChildReaper::forget, "forgetHost");
  return exports;
}

}  // namespace

NODE_API_MODULE(pkcs11_ha, initialise)
