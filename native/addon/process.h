#pragma once

#include <napi.h>

namespace pkcs11ha {

// waitReadable(channels, timeoutMs, spinUs): waits on this thread until one of the channels can be read or
// has ended; true if one can. Spins first, because a short wait costs less than a sleep.
Napi::Value waitReadable(const Napi::CallbackInfo& info);

// processEnd(pid): { code, signal } of a child that has ended and not been reaped yet, else null. Does not
// reap: libuv still will.
Napi::Value processEnd(const Napi::CallbackInfo& info);

}  // namespace pkcs11ha
