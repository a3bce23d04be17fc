#include "addon/secret.h"

#include <algorithm>
#include <sys/mman.h>
#include <unistd.h>

#include "common/packet.h"

namespace pkcs11ha {
namespace {

// Type tag of Secret objects. Without the tag another object could be unwrapped as a Secret.
constexpr napi_type_tag kSecretTag = {0x9f0f3c6f2c7b4f11, 0x8a54d1c0b7e2a6d3};

bool isEqual(std::span<const std::uint8_t> first, std::span<const std::uint8_t> second) {
  if (first.size() != second.size()) return false;
  // Volatile, so that the compiler does not leave the loop at the first difference.
  volatile std::uint8_t difference = 0;
  for (std::size_t i = 0; i < first.size(); ++i) difference = difference | (first[i] ^ second[i]);
  return difference == 0;
}

}  // namespace

Napi::Function Secret::define(Napi::Env env) {
  return DefineClass(env, "Secret",
                     {
                         StaticMethod<&Secret::joined>("joined"),
                         InstanceAccessor<&Secret::length>("length"),
                         InstanceMethod<&Secret::equals>("equals"),
                         InstanceMethod<&Secret::copy>("copy"),
                         InstanceMethod<&Secret::wipe>("wipe"),
                     });
}

Secret::Secret(const Napi::CallbackInfo& info) : Napi::ObjectWrap<Secret>(info) {
  Napi::Env env = info.Env();
  if (info.Length() != 1 || !info[0].IsTypedArray()) throw Napi::TypeError::New(env, "new Secret(bytes: Uint8Array)");
  const auto bytes = info[0].As<Napi::Uint8Array>();
  hold(env, {bytes.Data(), bytes.ByteLength()}, {});
  info.This().As<Napi::Object>().TypeTag(&kSecretTag);
}

Secret::~Secret() { release(); }

void Secret::hold(Napi::Env env, std::span<const std::uint8_t> first, std::span<const std::uint8_t> second) {
  release();
  const std::size_t length = first.size() + second.size();
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  mapped_ = (std::max<std::size_t>(length, 1) + page - 1) / page * page;
  void* memory = ::mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw Napi::Error::New(env, "no memory for a secret");
  // Ignores a failure of mlock: under a small RLIMIT_MEMLOCK the page can be swapped, but is still kept out of dumps.
  (void)::mlock(memory, mapped_);
  ::madvise(memory, mapped_, MADV_DONTDUMP);
  ::madvise(memory, mapped_, MADV_WIPEONFORK);
  memory_ = static_cast<std::uint8_t*>(memory);
  length_ = length;
  std::ranges::copy(second, std::ranges::copy(first, memory_).out);
}

Secret* Secret::of(const Napi::Value& value) {
  if (!value.IsObject() || !value.As<Napi::Object>().CheckTypeTag(&kSecretTag)) {
    throw Napi::TypeError::New(value.Env(), "the value is no Secret");
  }
  return Unwrap(value.As<Napi::Object>());
}

std::span<const std::uint8_t> Secret::heldBy(const Napi::Value& value) {
  const Secret* secret = of(value);
  if (secret->memory_ == nullptr) throw Napi::Error::New(value.Env(), "the secret has been wiped");
  return {secret->memory_, secret->length_};
}

Napi::Value Secret::joined(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const auto first = heldBy(info[0]);
  const auto second = heldBy(info[1]);
  // `this` of a static method is the class, as in JavaScript.
  const Napi::Object secret = info.This().As<Napi::Function>().New({Napi::Uint8Array::New(env, 0)});
  of(secret)->hold(env, first, second);
  return secret;
}

Napi::Value Secret::length(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(length_));
}

Napi::Value Secret::equals(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), isEqual(heldBy(info.This()), heldBy(info[0])));
}

Napi::Value Secret::copy(const Napi::CallbackInfo& info) {
  const auto bytes = heldBy(info.This());
  return Napi::Buffer<std::uint8_t>::Copy(info.Env(), bytes.data(), bytes.size());
}

void Secret::wipe(const Napi::CallbackInfo& info) { release(); }

void Secret::release() {
  if (memory_ == nullptr) return;
  pkcs11ha::wipe(memory_, mapped_);
  ::munmap(memory_, mapped_);
  memory_ = nullptr;
  length_ = 0;
}

}  // namespace pkcs11ha
