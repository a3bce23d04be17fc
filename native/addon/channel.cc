#include "addon/channel.h"

#include <cerrno>
#include <cstring>
#include <new>
#include <string>
#include <sys/mman.h>
#include <sys/socket.h>

#include "addon/secret.h"
#include "common/packet.h"

namespace pkcs11ha {
namespace {

[[noreturn]] void throwErrno(Napi::Env env, const char* what) {
  throw Napi::Error::New(env, std::string(what) + ": " + std::strerror(errno));
}

}  // namespace

Napi::Function Channel::define(Napi::Env env) {
  return DefineClass(env, "Channel",
                     {
                         InstanceAccessor<&Channel::hostSocket>("hostSocket"),
                         InstanceAccessor<&Channel::lanePage>("lanePage"),
                         InstanceAccessor<&Channel::ended>("ended"),
                         InstanceMethod<&Channel::closeHostEnds>("closeHostEnds"),
                         InstanceMethod<&Channel::send>("send"),
                         InstanceMethod<&Channel::receive>("receive"),
                         InstanceMethod<&Channel::lanes>("lanes"),
                         InstanceMethod<&Channel::watch>("watch"),
                         InstanceMethod<&Channel::ref>("ref"),
                         InstanceMethod<&Channel::unref>("unref"),
                         InstanceMethod<&Channel::close>("close"),
                     });
}

Channel::Channel(const Napi::CallbackInfo& info) : Napi::ObjectWrap<Channel>(info) {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) throwErrno(info.Env(), "socketpair");
  socket_.reset(ends[0]);
  hostSocket_.reset(ends[1]);
  lanePageFile_.reset(::memfd_create("pkcs11-ha-lanes", MFD_CLOEXEC));
  if (!lanePageFile_ || ::ftruncate(lanePageFile_.get(), sizeof(LanePage)) != 0) throwErrno(info.Env(), "memfd_create");
  void* memory = ::mmap(nullptr, sizeof(LanePage), PROT_READ | PROT_WRITE, MAP_SHARED, lanePageFile_.get(), 0);
  if (memory == MAP_FAILED) throwErrno(info.Env(), "mmap");
  page_ = new (memory) LanePage;
}

Channel::~Channel() {
  if (readiness_ != nullptr) readiness_->close();
  if (page_ != nullptr) ::munmap(page_, sizeof(LanePage));
}

Napi::Value Channel::hostSocket(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), hostSocket_.get());
}

Napi::Value Channel::lanePage(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), lanePageFile_.get());
}

Napi::Value Channel::ended(const Napi::CallbackInfo& info) { return Napi::Boolean::New(info.Env(), ended_); }

void Channel::closeHostEnds(const Napi::CallbackInfo& info) {
  hostSocket_.reset();
  lanePageFile_.reset();
}

Napi::Value Channel::send(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (info.Length() < 2 || !info[0].IsTypedArray() || !info[1].IsNumber()) {
    throw Napi::TypeError::New(env, "send(message: Uint8Array, length: number, secret?: Secret)");
  }
  const auto message = info[0].As<Napi::Uint8Array>();
  const auto length = static_cast<std::size_t>(info[1].As<Napi::Number>().Int64Value());
  if (length == 0 || length > message.ByteLength()) throw Napi::RangeError::New(env, "length is outside of the message");
  std::span<const std::uint8_t> secret;
  if (info.Length() > 2 && info[2].IsObject()) secret = Secret::heldBy(info[2]);
  if (!socket_) return Napi::Number::New(env, 2);
  switch (sendPacket(socket_.get(), {message.Data(), length}, secret, false)) {
    case SendResult::sent:
      page_->turn.wakeIfNobodyListens();
      return Napi::Number::New(env, 0);
    case SendResult::wouldBlock:
      return Napi::Number::New(env, 1);
    case SendResult::peerGone:
      return Napi::Number::New(env, 2);
    case SendResult::tooLarge:
      throw Napi::RangeError::New(env, "the message is larger than 1 GiB");
    default:
      throwErrno(env, "sendmsg");
  }
}

Napi::Value Channel::receive(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Napi::Array packets = Napi::Array::New(env);
  std::uint32_t count = 0;
  while (socket_ && !ended_) {
    const ReceiveResult result = receivePacket(socket_.get(), incoming_, false);
    if (result == ReceiveResult::wouldBlock) break;
    if (result != ReceiveResult::received) {
      ended_ = true;
      break;
    }
    packets.Set(count++, Napi::Buffer<std::uint8_t>::Copy(env, incoming_.data(), incoming_.size()));
  }
  return packets;
}

Napi::Value Channel::lanes(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Napi::Array busy = Napi::Array::New(env);
  std::uint32_t count = 0;
  for (std::size_t i = 0; page_ != nullptr && i < kMaxLanes; ++i) {
    const LaneSlot& slot = page_->lanes[i];
    const std::uint64_t job = slot.job.load(std::memory_order_acquire);
    const std::uint64_t since = slot.since.load(std::memory_order_relaxed);
    const bool isPatient = slot.patient.load(std::memory_order_relaxed) != 0;
    std::atomic_thread_fence(std::memory_order_acquire);
    // One that has ended meanwhile, or has given its place to another, is none that takes long.
    if (job == 0 || slot.job.load(std::memory_order_relaxed) != job) continue;
    Napi::Object entry = Napi::Object::New(env);
    entry["lane"] = static_cast<double>(i);
    entry["job"] = static_cast<double>(job);
    entry["since"] = static_cast<double>(since) / 1e6;
    entry["patient"] = isPatient;
    busy.Set(count++, entry);
  }
  return busy;
}

void Channel::watch(const Napi::CallbackInfo& info) {
  if (info.Length() < 1 || !info[0].IsFunction()) throw Napi::TypeError::New(info.Env(), "watch(callback: () => void)");
  if (readiness_ != nullptr || !socket_) return;
  readiness_ = Readiness::open(info.Env(), socket_.get(), info[0].As<Napi::Function>(), &readiness_);
}

void Channel::ref(const Napi::CallbackInfo& info) {
  if (readiness_ != nullptr) readiness_->ref();
}

void Channel::unref(const Napi::CallbackInfo& info) {
  if (readiness_ != nullptr) readiness_->unref();
}

void Channel::close(const Napi::CallbackInfo& info) {
  if (readiness_ != nullptr) readiness_->close();
  socket_.reset();
  hostSocket_.reset();
  lanePageFile_.reset();
}

}  // namespace pkcs11ha
