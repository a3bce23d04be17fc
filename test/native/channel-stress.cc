// Stress test of both ends of the channel in one process, for ThreadSanitizer. The host's lanes are the real ones. The
// application sends jobs of all sizes as fast as the lanes take them, in bursts and with pauses. Between bursts the
// application takes the replies, or sleeps until the bell rings. The exit code is 0 if each job got one reply.
//
//   channel-stress JOBS LANES
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <poll.h>
#include <random>
#include <sys/socket.h>
#include <vector>

#include "common/channel_page.h"
#include "common/packet.h"
#include "host/job.h"
#include "host/lane.h"

namespace {

using namespace pkcs11ha;

// Maximum number of jobs that wait for a reply.
constexpr std::uint32_t kWindow = 16;
// Maximum time until the bell rings (ms).
constexpr int kBellWithin = 10'000;

// Job without steps, followed by `more` bytes that no step reads.
WipedBytes jobOf(std::uint64_t id, std::size_t more) {
  WipedBytes packet;
  Writer writer(packet);
  writer.u64(id);
  writer.u64(0);
  writer.u32(job::kSessionless);
  writer.u32(0);
  packet.resize(packet.size() + more, 7);
  return packet;
}

class Application {
 public:
  Application(ChannelPage& page, int socket, std::uint64_t jobs) : page_(page), socket_(socket), seen_(jobs + 1, false) {}

  bool run() {
    const std::uint64_t jobs = seen_.size() - 1;
    for (std::uint64_t id = 1; id <= jobs || outstanding_ > 0;) {
      const std::uint32_t burst = 1 + random_() % kWindow;
      for (std::uint32_t i = 0; i < burst && id <= jobs && outstanding_ < kWindow; ++i) {
        if (!send(id)) break;
        ++id;
      }
      if (!takeAll()) return false;
      if (random_() % 64 == 0) std::this_thread::sleep_for(std::chrono::microseconds(random_() % 400));
      if (outstanding_ == kWindow || (id > jobs && outstanding_ > 0)) {
        if (!awaitBell()) return false;
      }
    }
    return std::all_of(seen_.begin() + 1, seen_.end(), [](bool seen) { return seen; });
  }

 private:
  bool send(std::uint64_t id) {
    const bool isLarge = random_() % 512 == 0;
    const auto packet = jobOf(id, isLarge ? kInlineLimit * 2 : random_() % 2000);
    if (isLarge) {
      if (!page_.jobs.hasRoomFor(0) || sendPacket(socket_, packet, {}, false) != SendResult::sent) return false;
      page_.jobs.putSocketMark();
    } else if (!page_.jobs.put(packet)) {
      return false;
    }
    page_.scheduler.wakeIfNeeded();
    ++outstanding_;
    return true;
  }

  bool takeAll() {
    page_.wantsBell.store(1);
    std::vector<std::uint8_t> packet;
    for (;;) {
      const Ring::Taken kind = page_.replies.take(packet);
      if (kind == Ring::Taken::nothing) return true;
      std::uint64_t id = 0;
      if (kind == Ring::Taken::packet) std::memcpy(&id, packet.data(), sizeof id);
      if (id == 0 || id >= seen_.size() || seen_[id]) {
        std::fprintf(stderr, "unexpected reply to job %llu\n", static_cast<unsigned long long>(id));
        return false;
      }
      seen_[id] = true;
      --outstanding_;
    }
  }

  bool awaitBell() {
    if (!page_.replies.isEmpty()) return true;
    pollfd waiting{socket_, POLLIN, 0};
    if (::poll(&waiting, 1, kBellWithin) != 1) {
      std::fprintf(stderr, "the bell did not ring within %d ms; %u jobs have no reply\n", kBellWithin, outstanding_);
      return false;
    }
    std::vector<std::uint8_t> room(kInlineLimit);
    std::vector<std::uint8_t> large;
    Bytes packet;
    while (receivePacket(socket_, room, large, packet, false) == ReceiveResult::bell) {
    }
    return true;
  }

  ChannelPage& page_;
  const int socket_;
  std::vector<bool> seen_;
  std::uint32_t outstanding_ = 0;
  std::mt19937 random_{42};
};

}  // namespace

int main(int count, char** arguments) {
  if (count != 3) return 2;
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends) != 0) return 2;
  auto* page = new ChannelPage;
  auto* host = new Host{ends[1], page};
  startLanes(*host, static_cast<std::uint32_t>(std::strtoul(arguments[2], nullptr, 10)));
  const bool isWell = Application(*page, ends[0], std::strtoull(arguments[1], nullptr, 10)).run();
  std::printf("%s\n", isWell ? "each job got one reply" : "failed");
  return isWell ? 0 : 1;
}
