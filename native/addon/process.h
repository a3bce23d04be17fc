#pragma once

#include <napi.h>

namespace pkcs11ha {

// Implements waitReadable(channels, timeoutMs, spinUs): blocks this thread until one of the channels can be read or has
// ended. Returns true if one can be read or has ended. Spins first, because a short spin costs less than a sleep.
Napi::Value waitReadable(const Napi::CallbackInfo& info);

// Implements processEnd(pid, within): returns { code, signal } of a child that has ended and was not reaped yet. Waits
// for the end up to `within` ms, 100 at most; returns null after that. Leaves the reaping to libuv.
Napi::Value processEnd(const Napi::CallbackInfo& info);

// Implements pipe(): returns [reading end, writing end] of a pipe, both closed in programs that are started; reading
// does not wait.
Napi::Value pipe(const Napi::CallbackInfo& info);

}  // namespace pkcs11ha
