// Locks on bytes of files, which end with the last descriptor of their open file description, and the clock by which
// claims in files expire.
#pragma once

#include <napi.h>

namespace pkcs11ha {

// Implements lockByte(descriptor, byte, exclusive): takes a lock of the open file description on one byte, without
// waiting. Returns false if another open file description holds a lock that excludes this one.
Napi::Value lockByte(const Napi::CallbackInfo& info);

// Implements isByteLocked(descriptor, byte): returns true if another open file description holds any lock on the byte.
Napi::Value isByteLocked(const Napi::CallbackInfo& info);

// Implements bootTime(): returns the time of CLOCK_BOOTTIME (ms, with fractions).
Napi::Value bootTime(const Napi::CallbackInfo& info);

}  // namespace pkcs11ha
