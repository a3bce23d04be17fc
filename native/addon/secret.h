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

  // Empty for anything that is no Secret, and for a wiped one.
  static std::span<const std::uint8_t> bytesOf(const Napi::Value& value);

 private:
  Napi::Value length(const Napi::CallbackInfo& info);
  void wipe(const Napi::CallbackInfo& info);
  void release();

  std::uint8_t* memory_ = nullptr;
  std::size_t mapped_ = 0;
  std::size_t length_ = 0;
};

}  // namespace pkcs11ha
