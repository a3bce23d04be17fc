#include "host/lane.h"

#include <algorithm>
#include <chrono>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "common/clock.h"
#include "common/guarded.h"
#include "common/spin.h"
#include "common/packet.h"
#include "host/process/shutdown.h"
#include "host/job.h"
#include "host/lane_packet.h"

namespace pkcs11ha {
namespace {

using Clock = std::chrono::steady_clock;
// Time that a lane spins for its next job: about the cost of waking a lane. The longer time applies while jobs keep
// arriving during the spin.
constexpr auto kSpin = std::chrono::microseconds(100);
constexpr auto kSteadySpin = std::chrono::microseconds(250);
// Interval between checks of the lane that guards.
constexpr auto kGuardInterval = std::chrono::milliseconds(2);
// Limits of the time that replies may wait to be announced together while more jobs wait (ns): the time of a few jobs.
constexpr std::uint64_t kMinDelay = 1'000'000;
constexpr std::uint64_t kMaxDelay = 10'000'000;
// Time during which further lanes take jobs, after the guard saw that the working lanes stopped taking them (ns).
constexpr std::uint64_t kStallTime = 100'000'000;
// Pause between attempts to put a reply into a full ring.
constexpr auto kFullRingPause = std::chrono::microseconds(100);

// Rings the bell if the application waits for one.
void announceReplies(Host& host) {
  host.unannouncedSince.store(0, std::memory_order_relaxed);
  host.maxBacklog.store(host.page->jobs.backlog(), std::memory_order_relaxed);
  std::atomic<std::uint32_t>& wantsBell = host.page->wantsBell;
  if (wantsBell.load() != 0 && wantsBell.exchange(0) != 0) ringBell(host.socket);
}

bool isAnnouncementDue(const Host& host) {
  const std::uint64_t since = host.unannouncedSince.load(std::memory_order_relaxed);
  const std::uint64_t delay = std::clamp(4 * host.pace.usualTime(), kMinDelay, kMaxDelay);
  return since != 0 && monotonicNanoseconds() - since >= delay;
}

// Announces a reply at once, or later together with others. Waking the application can take longer than a job. While
// more jobs wait, several replies are announced together, early enough for the application to send new jobs before
// those are done. The guard announces replies that would otherwise wait for a job that hangs.
void announceWhenDue(Host& host) {
  if (host.page->wantsBell.load() == 0) return;
  const std::uint64_t backlog = host.page->jobs.backlog();
  const std::uint64_t most = host.maxBacklog.load(std::memory_order_relaxed);
  if (backlog > most) host.maxBacklog.store(backlog, std::memory_order_relaxed);
  if (2 * backlog <= most || !host.page->scheduler.isGuarded()) return announceReplies(host);
  std::uint64_t none = 0;
  host.unannouncedSince.compare_exchange_strong(none, monotonicNanoseconds());
  if (isAnnouncementDue(host)) announceReplies(host);
}

// Spins until a job arrives or the time for spinning ends.
void spin(Host& host) {
  const Ring& jobs = host.page->jobs;
  const bool isSteady = host.isSteady.load(std::memory_order_relaxed);
  const auto end = Clock::now() + (isSteady ? kSteadySpin : kSpin);
  bool hasArrived = false;
  while (!hasArrived && Clock::now() < end) hasArrived = lookOnce([&jobs] { return !jobs.isEmpty(); });
  if (hasArrived != isSteady) host.isSteady.store(hasArrived, std::memory_order_relaxed);
}

// Checks at intervals that the working lanes still take jobs, and returns when they stop. Parks if another lane guards.
void guard(Host& host, std::uint32_t ticket) {
  LaneScheduler& scheduler = host.page->scheduler;
  const Ring& jobs = host.page->jobs;
  if (!scheduler.tryGuard()) {
    scheduler.park(ticket);
    return;
  }
  auto movedAt = Clock::now();
  // Allows the jobs in progress several times their usual time.
  const auto patience = std::max<Clock::duration>(kGuardInterval, std::chrono::nanoseconds(4 * host.pace.usualTime()));
  for (auto now = movedAt; now - movedAt < patience; now = Clock::now()) {
    const std::uint64_t before = jobs.takenSoFar();
    std::this_thread::sleep_for(kGuardInterval);
    const bool hasMoved = jobs.takenSoFar() != before;
    if (hasMoved) movedAt = Clock::now();
    if (!host.page->replies.isEmpty() && (!hasMoved || isAnnouncementDue(host))) announceReplies(host);
  }
  scheduler.stopGuarding();
  if (!host.page->replies.isEmpty()) announceReplies(host);
  if (!jobs.isEmpty()) host.stalledUntil.store(monotonicNanoseconds() + kStallTime, std::memory_order_relaxed);
}

// Returns true if enough lanes work, and none of them has stalled recently.
bool isEnough(const Host& host) {
  if (!host.page->scheduler.isEnough()) return false;
  const std::uint64_t until = host.stalledUntil.load(std::memory_order_relaxed);
  return until == 0 || monotonicNanoseconds() >= until;
}

// Waits for the next packet of this lane. Spins first if the lane has just finished a job, which is cheaper than waking
// another lane. Returns false if the application's side has ended.
bool nextPacket(Host& host, bool spins, LanePacket& packet) {
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
    if (spins && jobs.isEmpty() && !host.page->replies.isEmpty()) announceReplies(host);
    if (spins && jobs.isEmpty()) spin(host);
    spins = false;
    const Ring::Taken kind = jobs.take(packet.bytes);
    if (kind == Ring::Taken::nothing) {
      scheduler.stopListening();
      if (jobs.isEmpty()) scheduler.park(ticket);
      continue;
    }
    const bool isTaken = takeFrom(host, kind, packet);
    scheduler.beginWork();
    scheduler.stopListening();
    // Wakes a lane for packets that arrived while this lane listened: their sender woke none.
    if (!jobs.isEmpty()) scheduler.wakeIfNeeded();
    return isTaken;
  }
}

// Entry of a running job on the channel page.
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

// Tries to send a reply. Returns false if the ring has no room yet, or if the reply was replaced by a status that is to
// be sent instead.
bool tryReply(Host& host, const job::Header& header, WipedBytes& reply) {
  Ring& replies = host.page->replies;
  const std::lock_guard<std::mutex> lock(host.replying);
  const bool isSecret = (header.flags & job::kSecretReply) != 0;
  if (reply.size() <= kInlineLimit && !isSecret) return replies.put(reply);
  if (!replies.hasRoomFor(0)) return false;
  const SendResult result = sendPacket(host.socket, reply, {}, true);
  if (result == SendResult::sent) return replies.putSocketMark();
  // If a reply is too large or memory is short, fails this job, not the host.
  if (result != SendResult::peerGone) writeStatus(header.id, job::Status::unsendable, reply);
  return result == SendResult::peerGone;
}

// Sends a reply and announces it. Returns false if the host is shutting down.
bool sendReply(Host& host, const job::Header& header, WipedBytes& reply) {
  while (!tryReply(host, header, reply)) {
    if (isLeaving()) return false;
    std::this_thread::sleep_for(kFullRingPause);
  }
  // Frees the memory too: a step that failed may have left a PIN behind the reply's end. The allocator wipes it.
  if ((header.flags & job::kSecretReply) != 0) WipedBytes().swap(reply);
  announceWhenDue(host);
  return true;
}

// Counts a lane as working, and measures its job.
class Working {
 public:
  explicit Working(Host& host) : host_(host), watch_(host.pace) {}
  ~Working() {
    host_.page->scheduler.endWork();
    host_.page->scheduler.setEnough(host_.pace.maxAtWork());
  }
  Working(const Working&) = delete;
  Working& operator=(const Working&) = delete;

 private:
  Host& host_;
  Pace::Watch watch_;
};

// Returns true if the job is in time and its handles belong to the current login (Rule 13). A login begins an epoch.
// Deadlines are times of CLOCK_BOOTTIME, so that they pass while the machine is suspended.
bool mayBegin(Host& host, const job::Header& header) {
  if (header.deadline != 0 && bootNanoseconds() > header.deadline) return false;
  const std::uint32_t epoch = header.flags >> job::kEpochShift;
  if ((header.flags & job::kLogin) != 0) host.epoch.store(epoch);
  return (header.flags & job::kSessionless) != 0 || epoch == host.epoch.load();
}

// Runs the job of a packet and sends the reply. Returns false if the host is shutting down.
bool serve(Host& host, LaneSlot& slot, Session& session, Bytes packet, WipedBytes& reply) {
  job::Header header{};
  std::uint32_t lanesWanted = 0;
  {
    // Wipes the packet at the end of this block, before the reply is sent.
    WipedPacket wiped(packet);
    Reader reader(packet);
    try {
      header = job::Header::read(reader);
    } catch (const Malformed&) {
      return true;
    }
    wiped.isSecret = (header.flags & job::kSecret) != 0;
    const bool locksToken = (header.flags & job::kLockToken) != 0;
    // Waits for other processes before the gate, so that readers go on meanwhile.
    const TokenLock::Held held(host.tokenLock, locksToken);
    const WriteGate::Pass pass(host.gate, (header.flags & job::kExclusive) != 0);
    // A session serves one thread at a time. While a job waits for the anchor session, it has not begun.
    std::unique_lock<std::mutex> anchor;
    const bool isOnLoginSession = (header.flags & job::kOnLoginSession) != 0;
    if (isOnLoginSession) anchor = host.module.holdAnchor();
    // Declared before the context, because the context's destructors may close sessions, which is part of the job.
    const Begun begun(slot, header);
    if (isLeaving()) return false;
    // Checks the deadline after the page shows the job: the watchdog either sees a write in progress and keeps its
    // claims, or the write's deadline, which is before their expiry, has passed here.
    if (!mayBegin(host, header)) {
      writeStatus(header.id, job::Status::expired, reply);
    } else {
      JobContext context{host.module, session, host.held, nullptr, &host.claims, &host.tokenLock};
      context.onLoginSession = isOnLoginSession;
      context.locksToken = locksToken;
      runJob(header, reader, context, reply);
      lanesWanted = context.lanesWanted;
    }
  }
  if (lanesWanted != 0) startLanes(host, lanesWanted);
  return sendReply(host, header, reply);
}

}  // namespace

void runLane(Host& host, LaneSlot& slot) {
  Session session(host.module);
  LanePacket packet;
  WipedBytes reply;
  bool spins = false;
  while (nextPacket(host, spins, packet)) {
    const Working working(host);
    if (!serve(host, slot, session, packet.taken, reply)) return;
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
      // If the system has no more threads, the host works with the lanes it has.
      host.lanes.fetch_sub(1);
      return;
    }
  }
}

}  // namespace pkcs11ha
