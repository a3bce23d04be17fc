#include "host/lane.h"

#include <algorithm>
#include <chrono>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "common/spin.h"
#include "common/packet.h"
#include "host/process/shutdown.h"
#include "host/job.h"

namespace pkcs11ha {
namespace {

using Clock = std::chrono::steady_clock;
// How long a lane spins for its next job: about what it costs all to have it woken, and longer while jobs keep coming
// in time.
constexpr auto kSpin = std::chrono::microseconds(100);
constexpr auto kSpinLonger = std::chrono::microseconds(250);
// A lane that guards looks so often.
constexpr auto kGuard = std::chrono::milliseconds(2);
// So long, in nanoseconds, replies may wait for others to be told of with them while there is more to do: a few jobs' time.
constexpr std::uint64_t kShortestHold = 1'000'000;
constexpr std::uint64_t kLongestHold = 10'000'000;
// Where those at work have not come back in that time, they are not counted on for so many nanoseconds.
constexpr std::uint64_t kStalled = 100'000'000;
constexpr auto kFull = std::chrono::microseconds(100);

// Tells the application of replies that it has not been told of.
void tell(Host& host) {
  host.untoldSince.store(0, std::memory_order_relaxed);
  host.mostBacklog.store(host.page->jobs.backlog(), std::memory_order_relaxed);
  std::atomic<std::uint32_t>& wantsBell = host.page->wantsBell;
  if (wantsBell.load() != 0 && wantsBell.exchange(0) != 0) ringBell(host.socket);
}

bool isHeldTooLong(const Host& host) {
  const std::uint64_t since = host.untoldSince.load(std::memory_order_relaxed);
  const std::uint64_t hold = std::clamp(4 * host.pace.usualTime(), kShortestHold, kLongestHold);
  return since != 0 && monotonicNanoseconds() - since >= hold;
}

// After a reply was put: at once, or with others. Waking the application costs more than many a job, so it is woken for
// several replies where more jobs wait anyway, and early enough to bring new ones before those are done. Whoever guards
// sees to it that no reply waits for a job that hangs.
void tellInTime(Host& host) {
  if (host.page->wantsBell.load() == 0) return;
  const std::uint64_t backlog = host.page->jobs.backlog();
  const std::uint64_t most = host.mostBacklog.load(std::memory_order_relaxed);
  if (backlog > most) host.mostBacklog.store(backlog, std::memory_order_relaxed);
  if (2 * backlog <= most || !host.page->scheduler.isGuarded()) return tell(host);
  std::uint64_t none = 0;
  host.untoldSince.compare_exchange_strong(none, monotonicNanoseconds());
  if (isHeldTooLong(host)) tell(host);
}

// False when nothing can be had from the application any more.
bool takeFrom(Host& host, Ring::Taken kind, std::vector<std::uint8_t>& packet) {
  if (kind == Ring::Taken::elsewhere) return receivePacket(host.socket, packet, true) == ReceiveResult::received;
  return kind == Ring::Taken::packet;
}

// Waits a moment for what comes next.
void spin(Host& host) {
  const Ring& jobs = host.page->jobs;
  const bool isSteady = host.isSteady.load(std::memory_order_relaxed);
  const auto end = Clock::now() + (isSteady ? kSpinLonger : kSpin);
  bool hasCome = false;
  while (!hasCome && Clock::now() < end) hasCome = lookOnce([&jobs] { return !jobs.isEmpty(); });
  if (hasCome != isSteady) host.isSteady.store(hasCome, std::memory_order_relaxed);
}

// Looks now and then whether those at work still come back for more, for as long as they do.
void guard(Host& host, std::uint32_t ticket) {
  LaneScheduler& scheduler = host.page->scheduler;
  const Ring& jobs = host.page->jobs;
  if (!scheduler.tryGuard()) {
    scheduler.park(ticket);
    return;
  }
  auto movedAt = Clock::now();
  // Not sooner than what runs may well take.
  const auto patience = std::max<Clock::duration>(kGuard, std::chrono::nanoseconds(4 * host.pace.usualTime()));
  for (auto now = movedAt; now - movedAt < patience; now = Clock::now()) {
    const std::uint64_t before = jobs.takenSoFar();
    std::this_thread::sleep_for(kGuard);
    const bool hasMoved = jobs.takenSoFar() != before;
    if (hasMoved) movedAt = Clock::now();
    if (!host.page->replies.isEmpty() && (!hasMoved || isHeldTooLong(host))) tell(host);
  }
  scheduler.stopGuarding();
  if (!host.page->replies.isEmpty()) tell(host);
  if (!jobs.isEmpty()) host.stalledUntil.store(monotonicNanoseconds() + kStalled, std::memory_order_relaxed);
}

bool isEnough(const Host& host) {
  if (!host.page->scheduler.isEnough()) return false;
  const std::uint64_t until = host.stalledUntil.load(std::memory_order_relaxed);
  return until == 0 || monotonicNanoseconds() >= until;
}

// The next packet for this lane. One that has just been at work spins: it is the cheapest to be had.
bool nextPacket(Host& host, bool spins, std::vector<std::uint8_t>& packet) {
  LaneScheduler& scheduler = host.page->scheduler;
  Ring& jobs = host.page->jobs;
  for (;;) {
    const std::uint32_t ticket = scheduler.ticket();
    if (!scheduler.tryListen()) {
      scheduler.park(ticket);
      continue;
    }
    if (!jobs.isEmpty() && isEnough(host)) {
      scheduler.stopListening();
      guard(host, ticket);
      spins = false;
      continue;
    }
    if (spins && jobs.isEmpty() && !host.page->replies.isEmpty()) tell(host);
    if (spins && jobs.isEmpty()) spin(host);
    spins = false;
    const Ring::Taken kind = jobs.take(packet);
    if (kind == Ring::Taken::nothing) {
      scheduler.stopListening();
      if (jobs.isEmpty()) scheduler.park(ticket);
      continue;
    }
    const bool isTaken = takeFrom(host, kind, packet);
    scheduler.beginWork();
    scheduler.stopListening();
    // What came before this lane stopped listening woke nobody.
    if (!jobs.isEmpty()) scheduler.wakeIfNobodyComes();
    return isTaken;
  }
}

// Shows the job on the channel page for as long as it runs.
class Begun {
 public:
  Begun(LaneSlot& slot, const job::Header& header) : slot_(slot) {
    slot_.since.store(monotonicNanoseconds(), std::memory_order_relaxed);
    slot_.longWrite.store((header.flags & job::kLongWrite) != 0 ? 1 : 0, std::memory_order_relaxed);
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

// False where there is no room yet.
bool tryReply(Host& host, std::uint64_t id, std::vector<std::uint8_t>& reply) {
  Ring& replies = host.page->replies;
  const std::lock_guard<std::mutex> lock(host.replying);
  if (reply.size() <= kInlineLimit) return replies.put(reply);
  if (!replies.hasRoomFor(0)) return false;
  const SendResult result = sendPacket(host.socket, reply, {}, true);
  if (result == SendResult::sent) return replies.putElsewhere();
  // One that cannot be sent, because it is too large or memory is short, is that job's affair and not the host's.
  if (result != SendResult::peerGone) writeStatus(id, job::Status::unsendable, reply);
  return result == SendResult::peerGone;
}

// False when there is nobody to reply to.
bool sendReply(Host& host, std::uint64_t id, std::vector<std::uint8_t>& reply) {
  while (!tryReply(host, id, reply)) {
    if (isLeaving()) return false;
    std::this_thread::sleep_for(kFull);
  }
  tellInTime(host);
  return true;
}

// A lane that is at work, until it is done.
class Working {
 public:
  explicit Working(Host& host) : host_(host), watch_(host.pace) {}
  ~Working() {
    host_.page->scheduler.endWork();
    host_.page->scheduler.setEnough(host_.pace.mostAtWork());
  }
  Working(const Working&) = delete;
  Working& operator=(const Working&) = delete;

 private:
  Host& host_;
  Pace::Watch watch_;
};

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
    const WriteGate::Pass pass(host.gate, (header.flags & job::kExclusive) != 0);
    // A session is for one thread at a time; whoever waits for the anchor has not begun.
    std::unique_lock<std::mutex> anchor;
    const bool isOnLoginSession = (header.flags & job::kOnLoginSession) != 0;
    if (isOnLoginSession) anchor = host.module.holdAnchor();
    if (!mayBegin(host, header)) {
      writeStatus(header.id, job::Status::expired, reply);
    } else {
      // Before the context: what that closes at its end is part of the job.
      const Begun begun(slot, header);
      if (isLeaving()) return false;
      JobContext context{host.module, session, host.held, nullptr};
      context.onLoginSession = isOnLoginSession;
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
  bool spins = false;
  while (nextPacket(host, spins, packet)) {
    const Working working(host);
    if (!serve(host, slot, session, packet, reply)) return;
    spins = true;
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
