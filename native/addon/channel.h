// Application's end of the channel to one host.
#pragma once

#include <napi.h>

#include <chrono>
#include <deque>
#include <span>
#include <vector>

#include "addon/readiness.h"
#include "common/descriptor.h"
#include "common/channel_page.h"
#include "common/guarded.h"
#include "common/packet.h"

namespace pkcs11ha {

// Channel of one host, in JavaScript `new Channel()`. Makes both ends of the socket and the shared memory. `hostSocket`
// and `page` are the descriptors for the host; `closeHostEnds()` closes them here once the host is started.
class Channel : public Napi::ObjectWrap<Channel> {
 public:
  static Napi::Function define(Napi::Env env);
  explicit Channel(const Napi::CallbackInfo& info);
  ~Channel() override;

  int socket() const { return socket_.get(); }
  // Used by the synchronous wait: tells whether a reply is there, asks for a bell with the next reply, and reports that
  // the socket is readable.
  bool hasReply() const { return page_ != nullptr && !page_->replies.isEmpty(); }
  void wantBell(bool wanted) {
    if (page_ != nullptr) page_->wantsBell.store(wanted ? 1 : 0);
  }
  void noticeSocket() { isSocketReadable_ = true; }

 private:
  using Clock = std::chrono::steady_clock;
  // Packet that came through the socket: its bytes, or the descriptor of the memory that holds them.
  struct Large {
    WipedBytes bytes;
    Descriptor memory;
  };

  Napi::Value hostSocket(const Napi::CallbackInfo& info);
  Napi::Value page(const Napi::CallbackInfo& info);
  Napi::Value ended(const Napi::CallbackInfo& info);
  Napi::Value broken(const Napi::CallbackInfo& info);
  Napi::Value inbox(const Napi::CallbackInfo& info);
  void closeHostEnds(const Napi::CallbackInfo& info);
  // Implements send(message, length, secret?): returns 0 if sent, 1 if sending would block, 2 if the host has ended.
  Napi::Value send(const Napi::CallbackInfo& info);
  // Implements receive(): writes packets into `inbox`, each after its size in four bytes. Returns the number of bytes
  // written. A size of 0 stands for a packet that `takeLarge()` returns, in the same order. `ended` is true after the
  // end of file. `broken` is true once the host has sent what no host sends; from then on nothing of it is taken.
  Napi::Value receive(const Napi::CallbackInfo& info);
  // Implements takeLarge(): returns a packet, or undefined if the memory that the host passed holds none.
  Napi::Value takeLarge(const Napi::CallbackInfo& info);
  // Implements lanes(): returns [{ lane, job, since, longWrite }] of the working lanes, `since` in ms of
  // CLOCK_MONOTONIC.
  Napi::Value lanes(const Napi::CallbackInfo& info);
  void watch(const Napi::CallbackInfo& info);
  void ref(const Napi::CallbackInfo& info);
  void unref(const Napi::CallbackInfo& info);
  void close(const Napi::CallbackInfo& info);

  std::uint32_t takeReplies();
  void readSocket();

  Descriptor socket_;
  Descriptor hostSocket_;
  Descriptor pageFile_;
  ChannelPage* page_ = nullptr;
  Readiness* readiness_ = nullptr;
  Napi::Reference<Napi::Buffer<std::uint8_t>> inbox_;
  std::span<std::uint8_t> inboxBytes_;
  // Messages that came through the socket, in their order.
  std::deque<Large> large_;
  // Number of packets in `large_` whose size 0 receive() has written.
  std::size_t largeAnnounced_ = 0;
  // Room for a message of the socket, which may hold PINs.
  GuardedMemory room_{kInlineLimit};
  // Number of bells since the last packet.
  std::uint32_t idleBells_ = 0;
  // Size of the largest job that was sent (bytes).
  std::size_t largestJob_ = 0;
  std::chrono::steady_clock::time_point socketReadAt_{};
  bool isSocketReadable_ = false;
  bool ended_ = false;
  bool broken_ = false;
};

}  // namespace pkcs11ha
