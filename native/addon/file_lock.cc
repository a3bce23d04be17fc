#include "addon/file_lock.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <string>

#include "common/clock.h"

namespace pkcs11ha {
namespace {

// Returns the request for a lock on the byte that the second argument names.
struct flock requestFor(const Napi::CallbackInfo& info, short type) {
  const std::int64_t byte = info[1].As<Napi::Number>().Int64Value();
  if (byte < 0) throw Napi::RangeError::New(info.Env(), "byte: expected 0 or more");
  struct flock request {};
  request.l_type = type;
  request.l_whence = SEEK_SET;
  request.l_start = byte;
  request.l_len = 1;
  return request;
}

[[noreturn]] void throwLockError(Napi::Env env) {
  throw Napi::Error::New(env, std::string("fcntl: ") + std::strerror(errno));
}

}  // namespace

Napi::Value lockByte(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (info.Length() < 3 || !info[0].IsNumber() || !info[1].IsNumber() || !info[2].IsBoolean())
    throw Napi::TypeError::New(env, "lockByte(descriptor: number, byte: number, exclusive: boolean)");
  struct flock request = requestFor(info, info[2].As<Napi::Boolean>().Value() ? F_WRLCK : F_RDLCK);
  const bool isTaken = ::fcntl(info[0].As<Napi::Number>().Int32Value(), F_OFD_SETLK, &request) == 0;
  if (!isTaken && errno != EAGAIN && errno != EACCES) throwLockError(env);
  return Napi::Boolean::New(env, isTaken);
}

Napi::Value isByteLocked(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (info.Length() < 2 || !info[0].IsNumber() || !info[1].IsNumber())
    throw Napi::TypeError::New(env, "isByteLocked(descriptor: number, byte: number)");
  struct flock request = requestFor(info, F_WRLCK);
  if (::fcntl(info[0].As<Napi::Number>().Int32Value(), F_OFD_GETLK, &request) != 0) throwLockError(env);
  return Napi::Boolean::New(env, request.l_type != F_UNLCK);
}

Napi::Value bootTime(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(bootNanoseconds()) / 1e6);
}

}  // namespace pkcs11ha
