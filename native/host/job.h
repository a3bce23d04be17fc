// Job: a short sequence of calls, run on one session without interruption.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "host/held.h"
#include "host/mechanism.h"
#include "host/module.h"
#include "host/process/claims.h"
#include "host/process/token_lock.h"
#include "host/session.h"
#include "host/wire.h"

namespace pkcs11ha {

namespace job {

// Flags of a job.
constexpr std::uint32_t kExclusive = 1;        // Runs alone in the host (Rule 5)
constexpr std::uint32_t kOnNewSession = 2;     // Runs on a session opened for the job
constexpr std::uint32_t kSessionless = 4;      // Needs no session of the lane
constexpr std::uint32_t kSecret = 8;           // Holds a PIN; the packet is wiped before the reply, run or not
constexpr std::uint32_t kLongWrite = 16;       // Writes token objects or makes keys; shown on the channel page
constexpr std::uint32_t kUndo = 32;            // Destroys the objects of earlier steps if a step fails
constexpr std::uint32_t kOnLoginSession = 64;  // Makes objects on the anchor session, which lives as long as the login
constexpr std::uint32_t kLogin = 128;          // Logs in, and so begins an epoch
constexpr std::uint32_t kLockToken = 256;      // Holds the token's lock and looks at the token first
constexpr std::uint32_t kSecretReply = 512;    // Reads PINs; the reply goes through the socket and is wiped
// Bit in a step's call number: the step may fail, and the job then continues with the next step.
constexpr std::uint32_t kOptional = 0x80000000;
// Number of bits below the epoch in the flags. The epoch is that of the login which the job's handles belong to. A job
// of another epoch does not begin.
constexpr std::uint32_t kEpochShift = 10;

// Outcome of a job. unclean: a step failed, and not all objects of earlier steps could be destroyed.
enum class Status : std::uint32_t { done = 0, expired = 1, malformed = 2, unsendable = 3, unclean = 4 };

struct Header {
  std::uint64_t id;
  std::uint64_t deadline;  // Time of CLOCK_BOOTTIME (ns), or 0 for none
  std::uint32_t flags;
  std::uint32_t steps;
  static Header read(Reader& reader);
};

}  // namespace job

// State of a job, as its steps see it.
struct JobContext {
  Module& module;
  Session& session;
  HeldSessions& heldSessions;
  CK_FUNCTION_LIST* functions;
  // Claims and token lock of the host; null if the job may use neither.
  Claims* claims = nullptr;
  TokenLock* tokenLock = nullptr;
  // Object that each step created or found, for later steps. Of a key pair, `objects` has the public key and
  // `privateKeys` the private key.
  std::vector<CK_OBJECT_HANDLE> objects{};
  std::vector<CK_OBJECT_HANDLE> privateKeys{};
  // Call of each step, and its arguments: an object that cannot be copied is made again from them.
  struct Origin {
    std::uint32_t call;
    Reader arguments;
  };
  std::vector<Origin> origins{};
  // Objects that the steps created and did not destroy, in the order of their creation.
  std::vector<CK_OBJECT_HANDLE> created{};
  bool onLoginSession = false;
  // True while the job holds the token's lock.
  bool locksToken = false;
  // Parameters of the operations begun; a token may write to them until the operation ends.
  std::vector<Mechanism> mechanisms{};
  // Index in `mechanisms` of the parameter that was kept last.
  std::size_t cipher = 0;
  // Held session that the steps run on after X_Hold, instead of the lane's own.
  std::shared_ptr<HeldSession> held{};
  std::unique_lock<std::mutex> holding{};
  std::uint64_t heldNumber = 0;
  // Number of lanes that X_Attach asks for; 0 if the job has no X_Attach.
  std::uint32_t lanesWanted = 0;

  CK_SESSION_HANDLE handle() const { return held ? held->handle() : session.handle(); }
  // Tell the lane's session that an operation has begun or ended, or which code a call returned. Do nothing while the
  // job runs on a held session.
  void began();
  void ended();
  void notice(CK_RV rv);
  // Keeps the parameter of an operation alive.
  void keepMechanism(Mechanism mechanism);
  // Returns the parameter of the cipher in progress, or nullptr.
  const Mechanism* cipherMechanism() const;
  // Session on which objects are created; session objects live as long as that session.
  CK_SESSION_HANDLE creationSession() const { return onLoginSession ? module.anchor() : handle(); }
  CK_OBJECT_HANDLE readObject(Reader& reader) const;
  // Returns the call that made the object which the reader is at, if an earlier step of this job made it. Asks for the
  // step, not the handle: a library may use a handle again.
  std::optional<Origin> originAt(Reader reader) const;
  // Notes the object that a step created, for later steps and for undo. Returns CKR_GENERAL_ERROR if the token reported
  // CKR_OK without an object.
  CK_RV noteCreated(CK_RV rv, CK_OBJECT_HANDLE object);
  void forgetCreated(CK_OBJECT_HANDLE object);
};

using Call = CK_RV (*)(JobContext&, Reader&, Writer&);

// Functions of the calls in calls.def.
#define CALL(number, name) CK_RV call_##name(JobContext&, Reader&, Writer&);
#include "host/calls/calls.def"
#undef CALL

// Runs the steps until one fails, and writes the reply.
void runJob(const job::Header& header, Reader& reader, JobContext& context, WipedBytes& reply);
// Writes the reply to a job without results.
void writeStatus(std::uint64_t id, job::Status status, WipedBytes& reply);

}  // namespace pkcs11ha
