#include "addon/claim.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstddef>
#include <cstring>
#include <string>

namespace pkcs11ha {

Napi::Value claim(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (info.Length() < 1 || !info[0].IsString()) throw Napi::TypeError::New(env, "claim(name: string)");
  const std::string name = info[0].As<Napi::String>().Utf8Value();
  sockaddr_un address{};
  // An abstract socket name begins with a zero byte and is in no file system, so no file can be left behind.
  if (name.empty() || name.size() >= sizeof address.sun_path)
    throw Napi::RangeError::New(env, "name: expected 1 to 106 bytes");
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path + 1, name.data(), name.size());
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
  const int socket = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (socket < 0) return Napi::Number::New(env, -1);
  if (::bind(socket, reinterpret_cast<const sockaddr*>(&address), size) != 0) {
    ::close(socket);
    return Napi::Number::New(env, -1);
  }
  return Napi::Number::New(env, socket);
}

Napi::Value releaseClaim(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (info.Length() < 1 || !info[0].IsNumber()) throw Napi::TypeError::New(env, "releaseClaim(descriptor: number)");
  const int descriptor = info[0].As<Napi::Number>().Int32Value();
  if (descriptor >= 0) ::close(descriptor);
  return env.Undefined();
}

}  // namespace pkcs11ha
