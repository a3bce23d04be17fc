#include "addon/channel.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>
#include <fcntl.h>
#include <string>
#include <sys/mman.h>
#include <sys/socket.h>

#include "addon/secret.h"
#include "common/packet.h"

namespace pkcs11ha {
namespace {

// Size of the inbox (bytes): room for several packets of the largest size that a ring holds.
constexpr std::size_t kInbox = 64 * 1024;
static_assert(kInbox >= 2 * (kInlineLimit + sizeof(std::uint32_t)));

// Maximum number of messages that are read from the socket at once: a host that floods it does not stop the event loop.
constexpr int kMessagesAtOnce = 256;
// Maximum number of messages that wait for their mark in the ring: one for each job that may be out at a host.
constexpr std::size_t kMostWaiting = 4 * kMaxLanes;
// Maximum number of bells without a packet. An honest host rings at most once for each packet or so.
constexpr std::uint32_t kMostIdleBells = 4096;
// Maximum size of a reply (bytes), beside what the largest job brings about.
constexpr std::size_t kReplyLimit = std::size_t{256} << 20;

// Interval between checks of the socket when no one has reported it readable.
constexpr auto kSocketCheckInterval = std::chrono::milliseconds(1);

[[noreturn]] void throwErrno(Napi::Env env, const char* what) {
  throw Napi::Error::New(env, std::string(what) + ": " + std::strerror(errno));
}

}  // namespace

Napi::Function Channel::define(Napi::Env env) {
  return DefineClass(env, "Channel",
                     {
                         InstanceAccessor<&Channel::hostSocket>("hostSocket"),
                         InstanceAccessor<&Channel::page>("page"),
                         InstanceAccessor<&Channel::ended>("ended"),
                         InstanceAccessor<&Channel::broken>("broken"),
                         InstanceAccessor<&Channel::inbox>("inbox"),
                         InstanceMethod<&Channel::closeHostEnds>("closeHostEnds"),
                         InstanceMethod<&Channel::send>("send"),
                         InstanceMethod<&Channel::receive>("receive"),
                         InstanceMethod<&Channel::takeLarge>("takeLarge"),
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
  pageFile_.reset(::memfd_create("pkcs11-ha-channel", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!pageFile_ || ::ftruncate(pageFile_.get(), sizeof(ChannelPage)) != 0) throwErrno(info.Env(), "memfd_create");
  // Without the seals a host could shrink the memory, and the next access would end the application.
  if (::fcntl(pageFile_.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
    throwErrno(info.Env(), "fcntl");
  }
  void* memory = ::mmap(nullptr, sizeof(ChannelPage), PROT_READ | PROT_WRITE, MAP_SHARED, pageFile_.get(), 0);
  if (memory == MAP_FAILED) throwErrno(info.Env(), "mmap");
  // Keeps the application's plaintext, which passes through this memory, out of core dumps.
  ::madvise(memory, sizeof(ChannelPage), MADV_DONTDUMP);
  page_ = new (memory) ChannelPage;
  inbox_ = Napi::Persistent(Napi::Buffer<std::uint8_t>::New(info.Env(), kInbox));
  inboxBytes_ = {inbox_.Value().Data(), kInbox};
}

Channel::~Channel() {
  if (readiness_ != nullptr) readiness_->close();
  if (page_ != nullptr) ::munmap(page_, sizeof(ChannelPage));
}

Napi::Value Channel::hostSocket(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), hostSocket_.get());
}

Napi::Value Channel::page(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), pageFile_.get());
}

Napi::Value Channel::ended(const Napi::CallbackInfo& info) { return Napi::Boolean::New(info.Env(), ended_); }

Napi::Value Channel::broken(const Napi::CallbackInfo& info) { return Napi::Boolean::New(info.Env(), broken_); }

void Channel::closeHostEnds(const Napi::CallbackInfo& info) {
  hostSocket_.reset();
  pageFile_.reset();
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
  largestJob_ = std::max(largestJob_, length);
  const std::span<const std::uint8_t> bytes{message.Data(), length};
  if (secret.empty() && length <= kInlineLimit) {
    if (!page_->jobs.put(bytes)) return Napi::Number::New(env, 1);
    page_->scheduler.wakeIfNeeded();
    return Napi::Number::New(env, 0);
  }
  // Sends packets that hold a PIN, and large ones, through the socket: a PIN is never in the shared memory.
  if (!page_->jobs.hasRoomFor(0)) return Napi::Number::New(env, 1);
  switch (sendPacket(socket_.get(), bytes, secret, false)) {
    case SendResult::sent:
      page_->jobs.putSocketMark();
      page_->scheduler.wakeIfNeeded();
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

Napi::Value Channel::inbox(const Napi::CallbackInfo& info) { return inbox_.Value(); }

// Reads bells, messages and the end of file that the socket has at this moment, up to a number of them. Keeps nothing of
// a broken channel.
void Channel::readSocket() {
  isSocketReadable_ = false;
  socketReadAt_ = Clock::now();
  Message message;
  for (int read = 0; socket_ && !ended_; ++read) {
    if (read == kMessagesAtOnce) {
      isSocketReadable_ = true;
      return;
    }
    switch (receiveMessage(socket_.get(), room_.bytes(), message, false)) {
      case ReceiveResult::wouldBlock:
        return;
      case ReceiveResult::bell:
        if (++idleBells_ > kMostIdleBells) broken_ = true;
        break;
      case ReceiveResult::received:
        if (large_.size() >= kMostWaiting) broken_ = true;
        if (!broken_) large_.push_back({{message.bytes.begin(), message.bytes.end()}, std::move(message.memory)});
        wipe(message.bytes.data(), message.bytes.size());
        break;
      case ReceiveResult::ended:
        ended_ = true;
        break;
      case ReceiveResult::failed:
        broken_ = true;
        break;
    }
    if (broken_) large_.clear();
  }
}

// Moves replies from the ring into the inbox until the inbox is full. Returns the number of bytes in the inbox.
std::uint32_t Channel::takeReplies() {
  Ring& replies = page_->replies;
  std::size_t used = 0;
  const auto putSize = [&](std::uint32_t size) {
    std::memcpy(inboxBytes_.data() + used, &size, sizeof size);
    used += sizeof size;
  };
  for (;;) {
    const auto [kind, size] = replies.next();
    if (kind == Ring::Taken::nothing || used + sizeof size + size > inboxBytes_.size()) break;
    if (kind == Ring::Taken::packet) {
      putSize(size);
      if (!replies.takeInto(inboxBytes_.subspan(used, size))) {
        broken_ = true;
        return 0;
      }
      used += size;
      continue;
    }
    // The host sends a large packet before it puts the mark into the ring, so the packet is in the socket by now.
    if (kind == Ring::Taken::onSocket && large_.size() == largeAnnounced_) readSocket();
    if (kind == Ring::Taken::broken || large_.size() == largeAnnounced_) {
      broken_ = true;
      return 0;
    }
    replies.skip();
    ++largeAnnounced_;
    putSize(0);
  }
  if (used > 0) idleBells_ = 0;
  return static_cast<std::uint32_t>(used);
}

Napi::Value Channel::receive(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (!socket_ || page_ == nullptr) return Napi::Number::New(env, 0);
  if (readiness_ != nullptr && readiness_->takeReadable()) isSocketReadable_ = true;
  // Reads the socket before the ring, so that no reply of a host that has ended is missed. Checks the socket at
  // intervals even when it was not reported readable: a caller that never waits would not notice the host's end.
  if (isSocketReadable_ || Clock::now() - socketReadAt_ > kSocketCheckInterval) readSocket();
  if (broken_) return Napi::Number::New(env, 0);
  page_->wantsBell.store(1);
  return Napi::Number::New(env, takeReplies());
}

Napi::Value Channel::takeLarge(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (largeAnnounced_ == 0) throw Napi::Error::New(env, "receive() has announced no large packet");
  if (broken_) return env.Undefined();
  const Large message = std::move(large_.front());
  large_.pop_front();
  --largeAnnounced_;
  if (!message.memory) return Napi::Buffer<std::uint8_t>::Copy(env, message.bytes.data(), message.bytes.size());
  const std::optional<std::size_t> size = sizeOfMemory(message.memory, kReplyLimit + 2 * largestJob_);
  if (size) {
    const auto packet = Napi::Buffer<std::uint8_t>::New(env, *size);
    if (readMemory(message.memory, {packet.Data(), *size})) return packet;
  }
  broken_ = true;
  return env.Undefined();
}

Napi::Value Channel::lanes(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Napi::Array busy = Napi::Array::New(env);
  std::uint32_t count = 0;
  for (std::size_t i = 0; page_ != nullptr && i < kMaxLanes; ++i) {
    const LaneSlot& slot = page_->lanes[i];
    const std::uint64_t job = slot.job.load(std::memory_order_acquire);
    const std::uint64_t since = slot.since.load(std::memory_order_relaxed);
    const bool isLongWrite = slot.longWrite.load(std::memory_order_relaxed) != 0;
    std::atomic_thread_fence(std::memory_order_acquire);
    // If the job has changed since the first read, it has ended, and its time does not matter.
    if (job == 0 || slot.job.load(std::memory_order_relaxed) != job) continue;
    Napi::Object entry = Napi::Object::New(env);
    entry["lane"] = static_cast<double>(i);
    entry["job"] = static_cast<double>(job);
    entry["since"] = static_cast<double>(since) / 1e6;
    entry["longWrite"] = isLongWrite;
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
  pageFile_.reset();
}

}  // namespace pkcs11ha
