// Memory for a PIN on its way to the hosts: locked, kept out of core dumps and forked children, wiped at its end.
#pragma once

#include <napi.h>

#include <cstdint>
#include <span>

#include "common/guarded.h"

namespace pkcs11ha {

// Copy of a PIN's bytes, in JavaScript `new Secret(bytes)`. The caller wipes the source.
class Secret : public Napi::ObjectWrap<Secret> {
 public:
  static Napi::Function define(Napi::Env env);
  explicit Secret(const Napi::CallbackInfo& info);

  // Returns the bytes of a Secret. Throws if the value is no Secret or was wiped: a wiped secret must not pass for an
  // empty PIN.
  static std::span<const std::uint8_t> heldBy(const Napi::Value& value);

 private:
  // Implements Secret.joined(first, second): returns a new secret with the bytes of both, and leaves both unchanged.
  static Napi::Value joined(const Napi::CallbackInfo& info);
  // Implements Secret.fromEnvironment(name, erases): returns the first line of a variable. If `erases` is true and the
  // process was started with the variable, erases its value where it stands, so that it is in guarded memory only. There
  // it stays until the process ends: the next call finds the variable empty, and returns the same. A value that the
  // program has set itself stays: its text is in the program's memory in any case. Returns undefined if the variable is
  // not set, or is empty and was never read.
  static Napi::Value fromEnvironment(const Napi::CallbackInfo& info);
  Napi::Value length(const Napi::CallbackInfo& info);
  // Implements equals(other), in a time that depends on the lengths only, not on the bytes.
  Napi::Value equals(const Napi::CallbackInfo& info);
  // Implements copy(): returns the bytes in a Buffer, which the caller wipes.
  Napi::Value copy(const Napi::CallbackInfo& info);
  void wipe(const Napi::CallbackInfo& info);
  void hold(Napi::Env env, std::span<const std::uint8_t> first, std::span<const std::uint8_t> second);

  static Secret* of(const Napi::Value& value);

  GuardedMemory memory_;
};

}  // namespace pkcs11ha
