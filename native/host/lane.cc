#include "host/lane.h"

#include <chrono>
#include <mutex>
#include <poll.h>
#include <system_error>
#include <thread>
#include <vector>

#include "common/packet.h"
#include "host/farewell.h"
#include "host/job.h"

namespace pkcs11ha {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kSpin = std::chrono::microseconds(50);

std::uint64_t monotonicNanoseconds() {
  return static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now().time_since_epoch()).count());
}

bool isMoreWaiting(int socket) {
  pollfd waiting{socket, POLLIN, 0};
  return ::poll(&waiting, 1, 0) > 0;
}

// The lane that listens spins for a moment first: the next job of a steady stream comes sooner than a
// sleeping thread wakes.
ReceiveResult listen(int socket, std::vector<std::uint8_t>& packet) {
  for (const auto end = Clock::now() + kSpin; Clock::now() < end;) {
    const ReceiveResult result = receivePacket(socket, packet, false);
    if (result != ReceiveResult::wouldBlock) return result;
  }
  return receivePacket(socket, packet, true);
}

// The next packet for this lane: taken as the one that listens, or parked until that place is free.
bool nextPacket(Host& host, std::vector<std::uint8_t>& packet) {
  Turn& turn = host.page->turn;
  for (;;) {
    const std::uint32_t ticket = turn.ticket();
    if (!turn.tryListen()) {
      turn.park(ticket);
      continue;
    }
    const ReceiveResult result = listen(host.socket, packet);
    turn.stopListening();
    // What came before this lane stopped listening woke nobody.
    if (isMoreWaiting(host.socket)) turn.wake();
    return result == ReceiveResult::received;
  }
}

// Shows the job on the lane page for as long as it runs.
class Begun {
 public:
  Begun(LaneSlot& slot, const job::Header& header) : slot_(slot) {
    slot_.since.store(monotonicNanoseconds(), std::memory_order_relaxed);
    slot_.patient.store((header.flags & job::kPatient) != 0 ? 1 : 0, std::memory_order_relaxed);
    slot_.job.store(header.id, std::memory_order_release);
  }
  ~Begun() { slot_.job.store(0, std::memory_order_release); }
  Begun(const Begun&) = delete;
  Begun& operator=(const Begun&) = delete;

 private:
  LaneSlot& slot_;
};

// A packet that held a PIN leaves none behind, however it is done with. It counts as one until its header is read.
class Wiped {
 public:
  explicit Wiped(std::vector<std::uint8_t>& packet) : packet_(packet) {}
  ~Wiped() {
    if (isSecret) wipe(packet_.data(), packet_.size());
  }
  Wiped(const Wiped&) = delete;
  Wiped& operator=(const Wiped&) = delete;

  bool isSecret = true;

 private:
  std::vector<std::uint8_t>& packet_;
};

// False when there is nobody to reply to. A reply that cannot be sent, because it is too large or memory is
// short, is that job's affair and not the host's.
bool sendReply(Host& host, std::uint64_t id, std::vector<std::uint8_t>& reply) {
  SendResult result = sendPacket(host.socket, reply, {}, true);
  if (result != SendResult::sent && result != SendResult::peerGone) {
    writeStatus(id, job::Status::unsendable, reply);
    result = sendPacket(host.socket, reply, {}, true);
  }
  return result == SendResult::sent;
}

// Whether the job may begin: in time, and with handles of the login that holds. A login begins an epoch.
bool mayBegin(Host& host, const job::Header& header) {
  if (header.deadline != 0 && monotonicNanoseconds() > header.deadline) return false;
  const std::uint32_t epoch = header.flags >> job::kEpochShift;
  if ((header.flags & job::kLogin) != 0) host.epoch.store(epoch);
  return (header.flags & job::kSessionless) != 0 || epoch == host.epoch.load();
}

// Runs one packet's job and sends the reply.
bool serve(Host& host, LaneSlot& slot, Session& session, std::vector<std::uint8_t>& packet,
           std::vector<std::uint8_t>& reply) {
  job::Header header{};
  std::uint32_t lanesWanted = 0;
  {
    // Not for as long as the reply may take to be sent.
    Wiped wiped(packet);
    Reader reader(packet);
    try {
      header = job::Header::read(reader);
    } catch (const Malformed&) {
      return true;
    }
    wiped.isSecret = (header.flags & job::kSecret) != 0;
    const Gate::Pass pass(host.gate, (header.flags & job::kExclusive) != 0);
    // A session is for one thread at a time; whoever waits for the anchor has not begun.
    std::unique_lock<std::mutex> anchor;
    const bool isAnchored = (header.flags & job::kAnchored) != 0;
    if (isAnchored) anchor = host.module.holdAnchor();
    if (!mayBegin(host, header)) {
      writeStatus(header.id, job::Status::expired, reply);
    } else {
      // Before the context: what that closes at its end is part of the job.
      const Begun begun(slot, header);
      if (isLeaving()) return false;
      JobContext context{host.module, session, host.held, nullptr};
      context.anchored = isAnchored;
      runJob(header, reader, context, reply);
      lanesWanted = context.lanesWanted;
    }
  }
  if (lanesWanted != 0) startLanes(host, lanesWanted);
  return sendReply(host, header.id, reply);
}

}  // namespace

void runLane(Host& host, LaneSlot& slot) {
  Session session(host.module);
  std::vector<std::uint8_t> packet;
  std::vector<std::uint8_t> reply;
  while (nextPacket(host, packet) && serve(host, slot, session, packet, reply)) {
  }
}

void startLanes(Host& host, std::uint32_t count) {
  for (;;) {
    std::uint32_t lane = host.lanes.load();
    if (lane >= count || lane >= kMaxLanes) return;
    if (!host.lanes.compare_exchange_strong(lane, lane + 1)) continue;
    try {
      std::thread([&host, lane] {
        runLane(host, host.page->lanes[lane]);
        leave(*host.page);
      }).detach();
    } catch (const std::system_error&) {
      // No more threads to be had: it goes on with those it has.
      host.lanes.fetch_sub(1);
      return;
    }
  }
}

}  // namespace pkcs11ha
