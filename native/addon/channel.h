// The application's end of the channel to one host.
#pragma once

#include <napi.h>

#include <vector>

#include "addon/readiness.h"
#include "common/descriptor.h"
#include "common/lane_page.h"

namespace pkcs11ha {

// JS: new Channel(). Makes both ends of the socket and the lane page; `hostSocket` and `lanePage` are the
// descriptors to hand to the host, `closeHostEnds()` forgets them once it is started.
class Channel : public Napi::ObjectWrap<Channel> {
 public:
  static Napi::Function define(Napi::Env env);
  explicit Channel(const Napi::CallbackInfo& info);
  ~Channel() override;

  int socket() const { return socket_.get(); }

 private:
  Napi::Value hostSocket(const Napi::CallbackInfo& info);
  Napi::Value lanePage(const Napi::CallbackInfo& info);
  Napi::Value ended(const Napi::CallbackInfo& info);
  void closeHostEnds(const Napi::CallbackInfo& info);
  // send(message, length, secret?): 0 sent, 1 would block, 2 the host is gone
  Napi::Value send(const Napi::CallbackInfo& info);
  // receive(): every packet that is there, as Buffers; `ended` tells of the end of file
  Napi::Value receive(const Napi::CallbackInfo& info);
  // lanes(): [{ lane, job, since, patient }] of the lanes at work, `since` in ms of the monotonic clock
  Napi::Value lanes(const Napi::CallbackInfo& info);
  void watch(const Napi::CallbackInfo& info);
  void ref(const Napi::CallbackInfo& info);
  void unref(const Napi::CallbackInfo& info);
  void close(const Napi::CallbackInfo& info);

  Descriptor socket_;
  Descriptor hostSocket_;
  Descriptor lanePageFile_;
  LanePage* page_ = nullptr;
  Readiness* readiness_ = nullptr;
  std::vector<std::uint8_t> incoming_;
  bool ended_ = false;
};

}  // namespace pkcs11ha
