// A PIN between its source and the hosts: locked, kept out of core dumps and of forked children, wiped.
#pragma once

#include <napi.h>

#include <cstdint>
#include <span>

namespace pkcs11ha {

// JS: new Secret(bytes). The bytes are copied; wiping the source is the caller's affair.
class Secret : public Napi::ObjectWrap<Secret> {
 public:
  static Napi::Function define(Napi::Env env);
  explicit Secret(const Napi::CallbackInfo& info);
  ~Secret() override;

  // Throws for anything that is no Secret, and for one that has been wiped: it must not pass for an empty PIN.
  static std::span<const std::uint8_t> heldBy(const Napi::Value& value);

 private:
  // Secret.joined(first, second): a new one with the bytes of both, which stay as they are
  static Napi::Value joined(const Napi::CallbackInfo& info);
  Napi::Value length(const Napi::CallbackInfo& info);
  // equals(other): in a time that tells nothing of the bytes, only of the lengths
  Napi::Value equals(const Napi::CallbackInfo& info);
  void wipe(const Napi::CallbackInfo& info);
  void hold(Napi::Env env, std::span<const std::uint8_t> first, std::span<const std::uint8_t> second);
  void release();

  static Secret* of(const Napi::Value& value);

  std::uint8_t* memory_ = nullptr;
  std::size_t mapped_ = 0;
  std::size_t length_ = 0;
};

}  // namespace pkcs11ha
