#include "addon/process.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <fcntl.h>
#include <poll.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>
#include <vector>

#include "addon/channel.h"
#include "common/spin.h"

namespace pkcs11ha {

Napi::Value waitReadable(const Napi::CallbackInfo& info) {
  using Clock = std::chrono::steady_clock;
  Napi::Env env = info.Env();
  if (info.Length() != 3 || !info[0].IsArray() || !info[1].IsNumber() || !info[2].IsNumber()) {
    throw Napi::TypeError::New(env, "waitReadable(channels: Channel[], timeoutMs: number, spinUs: number)");
  }
  const auto channels = info[0].As<Napi::Array>();
  const double timeout = std::clamp(info[1].As<Napi::Number>().DoubleValue(), 0.0, 3'600'000.0);
  const double spin = std::clamp(info[2].As<Napi::Number>().DoubleValue(), 0.0, 1000.0);
  std::vector<Channel*> waited;
  std::vector<pollfd> sockets;
  for (std::uint32_t i = 0; i < channels.Length(); ++i) {
    Channel* channel = Channel::Unwrap(channels.Get(i).As<Napi::Object>());
    if (channel->socket() < 0) continue;
    waited.push_back(channel);
    sockets.push_back({channel->socket(), POLLIN, 0});
  }
  const auto start = Clock::now();
  const auto end = start + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double, std::milli>(timeout));
  const auto spinEnd = std::min(end, start + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double, std::micro>(spin)));
  const auto hasReply = [&] { return std::any_of(waited.begin(), waited.end(), [](const Channel* channel) { return channel->hasReply(); }); };
  const auto wantBells = [&](bool wanted) {
    for (Channel* channel : waited) channel->wantBell(wanted);
  };
  wantBells(false);
  do {
    if (lookOnce(hasReply)) return Napi::Boolean::New(env, true);
  } while (Clock::now() < spinEnd);
  wantBells(true);
  for (;;) {
    if (hasReply()) return Napi::Boolean::New(env, true);
    const auto left = std::chrono::duration<double, std::milli>(end - Clock::now()).count();
    const int ready = ::poll(sockets.data(), sockets.size(), std::max(0, static_cast<int>(std::ceil(left))));
    if (ready < 0 && errno != EINTR) throw Napi::Error::New(env, "poll failed");
    for (std::size_t i = 0; ready > 0 && i < sockets.size(); ++i) {
      if (sockets[i].revents != 0) waited[i]->noticeSocket();
    }
    if (ready > 0) return Napi::Boolean::New(env, true);
    if (Clock::now() >= end) return Napi::Boolean::New(env, hasReply());
  }
}

Napi::Value processEnd(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (info.Length() != 2 || !info[0].IsNumber() || !info[1].IsNumber()) {
    throw Napi::TypeError::New(env, "processEnd(pid: number, within: number)");
  }
  const auto pid = static_cast<id_t>(info[0].As<Napi::Number>().Int64Value());
  const auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds(std::clamp(info[1].As<Napi::Number>().Int32Value(), 0, 100));
  // Polls, because the kernel closes a process's descriptors a moment before it reports how the process ended.
  siginfo_t state{};
  for (;;) {
    if (::waitid(P_PID, pid, &state, WEXITED | WNOHANG | WNOWAIT) != 0) return env.Null();
    if (state.si_pid != 0) break;
    if (std::chrono::steady_clock::now() >= until) return env.Null();
    std::this_thread::sleep_for(std::chrono::microseconds(200));
  }
  Napi::Object end = Napi::Object::New(env);
  const bool exited = state.si_code == CLD_EXITED;
  end["code"] = exited ? Napi::Value(Napi::Number::New(env, state.si_status)) : env.Null();
  end["signal"] = exited ? env.Null() : Napi::Value(Napi::Number::New(env, state.si_status));
  return end;
}

Napi::Value pipe(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0 || ::fcntl(ends[0], F_SETFL, O_NONBLOCK) != 0) {
    throw Napi::Error::New(env, "no pipe for a program's output");
  }
  // Room for programs that say more than the secret: a full pipe would stop them. Best effort.
  ::fcntl(ends[0], F_SETPIPE_SZ, 1 << 20);
  auto result = Napi::Array::New(env, 2);
  for (std::uint32_t i = 0; i < 2; ++i) result.Set(i, Napi::Number::New(env, ends[i]));
  return result;
}

}  // namespace pkcs11ha
