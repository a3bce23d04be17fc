#include "addon/secret.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <map>
#include <mutex>
#include <new>
#include <sstream>
#include <string>
#include <utility>

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

// Returns the environment that the kernel gave to this process, as a range of addresses; an empty one if /proc is not
// there. The end of the program's name is looked for from behind, since the name may hold anything.
std::pair<std::uintptr_t, std::uintptr_t> inheritedEnvironment() {
  std::ifstream file("/proc/self/stat");
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  const std::size_t name = text.rfind(')');
  if (name == std::string::npos) return {};
  std::istringstream fields(text.substr(name + 1));
  std::string skipped;
  // Fields 3 to 49 come before env_start (proc(5)).
  for (int field = 3; field < 50; ++field) fields >> skipped;
  std::uintptr_t start = 0;
  std::uintptr_t end = 0;
  fields >> start >> end;
  return fields ? std::pair{start, end} : std::pair<std::uintptr_t, std::uintptr_t>{};
}

// Tells whether a variable's value is where the kernel put it: the program has not set the variable itself.
bool isInherited(const char* value) {
  const auto [start, end] = inheritedEnvironment();
  const auto at = reinterpret_cast<std::uintptr_t>(value);
  return at >= start && at < end;
}

}  // namespace

Napi::Function Secret::define(Napi::Env env) {
  return DefineClass(env, "Secret",
                     {
                         StaticMethod<&Secret::joined>("joined"),
                         StaticMethod<&Secret::fromEnvironment>("fromEnvironment"),
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

void Secret::hold(Napi::Env env, std::span<const std::uint8_t> first, std::span<const std::uint8_t> second) {
  try {
    memory_ = GuardedMemory(first.size() + second.size());
  } catch (const std::bad_alloc&) {
    throw Napi::Error::New(env, "no memory for a secret");
  }
  std::ranges::copy(second, std::ranges::copy(first, memory_.bytes().begin()).out);
}

Secret* Secret::of(const Napi::Value& value) {
  if (!value.IsObject() || !value.As<Napi::Object>().CheckTypeTag(&kSecretTag)) {
    throw Napi::TypeError::New(value.Env(), "the value is no Secret");
  }
  return Unwrap(value.As<Napi::Object>());
}

std::span<const std::uint8_t> Secret::heldBy(const Napi::Value& value) {
  const Secret* secret = of(value);
  if (!secret->memory_) throw Napi::Error::New(value.Env(), "the secret has been wiped");
  return secret->memory_.bytes();
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

Napi::Value Secret::fromEnvironment(const Napi::CallbackInfo& info) {
  // Workers share the environment. The map is never destroyed: nothing is joined or ended at exit.
  static std::mutex mutex;
  static auto& held = *new std::map<std::string, GuardedMemory>;
  Napi::Env env = info.Env();
  if (info.Length() != 2 || !info[0].IsString() || !info[1].IsBoolean()) {
    throw Napi::TypeError::New(env, "fromEnvironment(name: string, erases: boolean)");
  }
  const std::string name = info[0].As<Napi::String>().Utf8Value();
  const std::lock_guard<std::mutex> lock(mutex);
  char* value = ::getenv(name.c_str());
  if (value == nullptr) held.erase(name);
  const std::size_t length = value == nullptr ? 0 : std::strcspn(value, "\r\n");
  std::span<const std::uint8_t> line(reinterpret_cast<std::uint8_t*>(value), length);
  if (length > 0 && info[1].ToBoolean() && isInherited(value)) {
    GuardedMemory memory(length);
    std::ranges::copy(line, memory.bytes().begin());
    held.insert_or_assign(name, std::move(memory));
    pkcs11ha::wipe(value, std::strlen(value));
    line = {};
  }
  const auto found = held.find(name);
  if (line.empty() && (found == held.end() || (value != nullptr && *value != '\0'))) return env.Undefined();
  const Napi::Object secret = info.This().As<Napi::Function>().New({Napi::Uint8Array::New(env, 0)});
  of(secret)->hold(env, line.empty() ? std::span<const std::uint8_t>(found->second.bytes()) : line, {});
  return secret;
}

Napi::Value Secret::length(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(memory_.bytes().size()));
}

Napi::Value Secret::equals(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), isEqual(heldBy(info.This()), heldBy(info[0])));
}

Napi::Value Secret::copy(const Napi::CallbackInfo& info) {
  const auto bytes = heldBy(info.This());
  return Napi::Buffer<std::uint8_t>::Copy(info.Env(), bytes.data(), bytes.size());
}

void Secret::wipe(const Napi::CallbackInfo& info) { memory_ = GuardedMemory(); }

}  // namespace pkcs11ha
