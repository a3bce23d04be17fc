// A job: a short sequence of calls, run on one session without interruption.
#pragma once

#include <cstdint>
#include <vector>

#include "host/held.h"
#include "host/mechanism.h"
#include "host/module.h"
#include "host/session.h"
#include "host/wire.h"

namespace pkcs11ha {

namespace job {

constexpr std::uint32_t kExclusive = 1;    // runs alone, readers and writers alike kept out
constexpr std::uint32_t kOnNewSession = 2;        // on a session opened for it
constexpr std::uint32_t kSessionless = 4;  // needs no session of the lane
constexpr std::uint32_t kSecret = 8;       // holds PINs: wiped before it is answered, whether it has run or not
constexpr std::uint32_t kLongWrite = 16;     // writes token objects or makes keys: shown as such on the channel page
constexpr std::uint32_t kUndo = 32;        // when a step fails, what the steps before it made is destroyed again
constexpr std::uint32_t kOnLoginSession = 64;    // makes objects on the anchor session: session objects live as long as the login
constexpr std::uint32_t kLogin = 128;      // a login: begins an epoch
// A step with this bit in its call's number may fail: the job goes on with the next one.
constexpr std::uint32_t kOptional = 0x80000000;
// Above the flags: the epoch of the login that the job's handles are from. A job of another one is not begun.
constexpr std::uint32_t kEpochShift = 8;

// unclean: a step failed, and what the steps before it made could not all be destroyed.
enum class Status : std::uint32_t { done = 0, expired = 1, malformed = 2, unsendable = 3, unclean = 4 };

struct Header {
  std::uint64_t id;
  std::uint64_t deadline;  // CLOCK_MONOTONIC in nanoseconds; 0: none
  std::uint32_t flags;
  std::uint32_t steps;
  static Header read(Reader& reader);
};

}  // namespace job

// What a call sees of the job it is a step of.
struct JobContext {
  Module& module;
  Session& session;
  HeldSessions& heldSessions;
  CK_FUNCTION_LIST* functions;
  // The object that each step made or found, for steps that come after it; of a key pair the public key first,
  // and the private one in `seconds`.
  std::vector<CK_OBJECT_HANDLE> objects{};
  std::vector<CK_OBJECT_HANDLE> seconds{};
  // What the steps made and did not destroy again, in that order.
  std::vector<CK_OBJECT_HANDLE> made{};
  bool onLoginSession = false;
  // Parameters of the operations begun: they have to live until the operation ends, a token may write to them.
  std::vector<Mechanism> mechanisms{};
  // The one of them that the cipher's Init brought.
  std::size_t cipher = 0;
  // The held session that the steps run on since X_Hold, instead of the lane's own.
  std::shared_ptr<HeldSession> held{};
  std::unique_lock<std::mutex> holding{};
  std::uint64_t heldNumber = 0;
  // Set by X_Attach: how many lanes there are to be.
  std::uint32_t lanesWanted = 0;

  CK_SESSION_HANDLE handle() const { return held ? held->handle() : session.handle(); }
  // An operation begins or ends, or a call has given its code: what the lane's session has to know.
  void began();
  void ended();
  void notice(CK_RV rv);
  // Keeps the parameter of an operation that was begun.
  void keep(Mechanism mechanism);
  // The parameter of the cipher that is under way; nothing where there is none.
  const Mechanism* cipherMechanism() const;
  // The session that calls which make objects are made on: session objects live as long as it does.
  CK_SESSION_HANDLE maker() const { return onLoginSession ? module.anchor() : handle(); }
  CK_OBJECT_HANDLE readObject(Reader& reader) const;
  // Notes what a step made, for later steps and for undoing it; a token that says CKR_OK and gives no object has
  // made none.
  CK_RV make(CK_RV rv, CK_OBJECT_HANDLE object);
  void unmake(CK_OBJECT_HANDLE object);
};

using Call = CK_RV (*)(JobContext&, Reader&, Writer&);

// The calls by their numbers in calls.def.
#define CALL(number, name) CK_RV call_##name(JobContext&, Reader&, Writer&);
#include "host/calls/calls.def"
#undef CALL

// Runs the steps until one fails and writes the reply.
void runJob(const job::Header& header, Reader& reader, JobContext& context, std::vector<std::uint8_t>& reply);
void writeStatus(std::uint64_t id, job::Status status, std::vector<std::uint8_t>& reply);

}  // namespace pkcs11ha
