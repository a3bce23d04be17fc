#include "addon/secret.h"

#include <algorithm>
#include <sys/mman.h>
#include <unistd.h>

#include "common/packet.h"

namespace pkcs11ha {
namespace {

// Marks our own objects, so that a foreign object is never unwrapped as a Secret.
constexpr napi_type_tag kSecretTag = {0x9f0f3c6f2c7b4f11, 0x8a54d1c0b7e2a6d3};

}  // namespace

Napi::Function Secret::define(Napi::Env env) {
  return DefineClass(env, "Secret",
                     {InstanceAccessor<&Secret::length>("length"), InstanceMethod<&Secret::wipe>("wipe")});
}

Secret::Secret(const Napi::CallbackInfo& info) : Napi::ObjectWrap<Secret>(info) {
  Napi::Env env = info.Env();
  if (info.Length() != 1 || !info[0].IsTypedArray()) throw Napi::TypeError::New(env, "new Secret(bytes: Uint8Array)");
  const auto bytes = info[0].As<Napi::Uint8Array>();
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  mapped_ = (std::max<std::size_t>(bytes.ByteLength(), 1) + page - 1) / page * page;
  void* memory = ::mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw Napi::Error::New(env, "no memory for a secret");
  // A small RLIMIT_MEMLOCK is no reason to refuse to work: the page is then only kept out of dumps.
  (void)::mlock(memory, mapped_);
  ::madvise(memory, mapped_, MADV_DONTDUMP);
  ::madvise(memory, mapped_, MADV_WIPEONFORK);
  memory_ = static_cast<std::uint8_t*>(memory);
  length_ = bytes.ByteLength();
  std::copy_n(bytes.Data(), length_, memory_);
  info.This().As<Napi::Object>().TypeTag(&kSecretTag);
}

Secret::~Secret() { release(); }

std::span<const std::uint8_t> Secret::bytesOf(const Napi::Value& value) {
  const auto object = value.As<Napi::Object>();
  if (!object.CheckTypeTag(&kSecretTag)) throw Napi::TypeError::New(value.Env(), "the value is no Secret");
  const Secret* secret = Unwrap(object);
  return {secret->memory_, secret->length_};
}

Napi::Value Secret::length(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(length_));
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
