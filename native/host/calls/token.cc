// General, slot, token and session calls (PKCS#11 2.40, sections 5.4 to 5.6).
#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "host/job.h"
#include "host/process/priority.h"
#include "host/template.h"

namespace pkcs11ha {
namespace {

// Maximum number of slots or mechanisms accepted: more than any token has.
constexpr CK_ULONG kMaxItems = 65536;

std::string readText(Reader& reader) {
  const Bytes bytes = reader.sized();
  return {bytes.begin(), bytes.end()};
}

void writeVersion(Writer& writer, const CK_VERSION& version) {
  writer.u8(version.major);
  writer.u8(version.minor);
}

template <std::size_t N>
void writeText(Writer& writer, const CK_UTF8CHAR (&text)[N]) {
  writer.sized({text, N});
}

void writeNumbers(Writer& writer, const std::vector<CK_ULONG>& numbers) {
  writer.u32(static_cast<std::uint32_t>(numbers.size()));
  for (const CK_ULONG number : numbers) writer.u64(number);
}

// Reads and writes a list. Tries again if the list grew between the query for its length and the query for its items.
template <typename F>
CK_RV writeList(Writer& writer, F&& call) {
  std::vector<CK_ULONG> items;
  CK_RV rv = CKR_BUFFER_TOO_SMALL;
  for (int round = 0; rv == CKR_BUFFER_TOO_SMALL && round < 4; ++round) {
    CK_ULONG count = 0;
    rv = call(nullptr, &count);
    if (rv != CKR_OK) return rv;
    if (count > kMaxItems) return CKR_HOST_MEMORY;
    items.resize(count);
    if (items.empty()) break;
    rv = call(items.data(), &count);
    if (rv == CKR_OK) items.resize(std::min<std::size_t>(count, items.size()));
  }
  if (rv == CKR_OK) writeNumbers(writer, items);
  return rv;
}

}  // namespace

// Loads the library. After a failure, writes its reason, which names the library and never an argument.
CK_RV call_X_Load(JobContext& context, Reader& reader, Writer& writer) {
  const std::string path = readText(reader);
  const std::string reserved = readText(reader);
  std::string problem;
  const CK_RV rv = context.module.load(path, reserved, problem);
  const auto* text = reinterpret_cast<const std::uint8_t*>(problem.data());
  writer.sized({text, problem.size()});
  return rv;
}

CK_RV call_X_Attach(JobContext& context, Reader& reader, Writer& writer) {
  const CK_SLOT_ID slot = reader.u64();
  context.lanesWanted = reader.u32();
  return context.module.attach(slot);
}

// Lowers or restores the priority of all threads of the host, the library's too.
CK_RV call_X_GiveWay(JobContext& context, Reader& reader, Writer& writer) {
  giveWay(reader.u8() != 0);
  return CKR_OK;
}

// Holds a claim together with the application, until X_DropClaim, the claim's expiry or the host's end.
CK_RV call_X_HoldClaim(JobContext& context, Reader& reader, Writer& writer) {
  const std::string path = readText(reader);
  return context.claims == nullptr ? CKR_FUNCTION_FAILED : context.claims->hold(path);
}

CK_RV call_X_DropClaim(JobContext& context, Reader& reader, Writer& writer) {
  const std::string path = readText(reader);
  if (context.claims != nullptr) context.claims->drop(path);
  return CKR_OK;
}

// Has jobs that write hold a lock file of the token, after which they look at the token.
CK_RV call_X_UseTokenLock(JobContext& context, Reader& reader, Writer& writer) {
  const std::string path = readText(reader);
  Template lasting = Template::read(reader);
  return context.tokenLock == nullptr ? CKR_FUNCTION_FAILED : context.tokenLock->use(path, std::move(lasting));
}

CK_RV call_C_Finalize(JobContext& context, Reader& reader, Writer& writer) { return context.module.finalize(); }

CK_RV call_C_GetSlotList(JobContext& context, Reader& reader, Writer& writer) {
  const CK_BBOOL present = reader.u8();
  return writeList(writer, [&](CK_ULONG* items, CK_ULONG* count) {
    return context.functions->C_GetSlotList(present, items, count);
  });
}

CK_RV call_C_GetSlotInfo(JobContext& context, Reader& reader, Writer& writer) {
  CK_SLOT_INFO info{};
  const CK_RV rv = context.functions->C_GetSlotInfo(reader.u64(), &info);
  writeText(writer, info.slotDescription);
  writeText(writer, info.manufacturerID);
  writer.u64(info.flags);
  writeVersion(writer, info.hardwareVersion);
  writeVersion(writer, info.firmwareVersion);
  return rv;
}

CK_RV call_C_GetTokenInfo(JobContext& context, Reader& reader, Writer& writer) {
  CK_TOKEN_INFO info{};
  const CK_RV rv = context.functions->C_GetTokenInfo(reader.u64(), &info);
  writeText(writer, info.label);
  writeText(writer, info.manufacturerID);
  writeText(writer, info.model);
  writeText(writer, info.serialNumber);
  for (const CK_ULONG number :
       {info.flags, info.ulMaxSessionCount, info.ulSessionCount, info.ulMaxRwSessionCount, info.ulRwSessionCount,
        info.ulMaxPinLen, info.ulMinPinLen, info.ulTotalPublicMemory, info.ulFreePublicMemory,
        info.ulTotalPrivateMemory, info.ulFreePrivateMemory}) {
    writer.u64(number);
  }
  writeVersion(writer, info.hardwareVersion);
  writeVersion(writer, info.firmwareVersion);
  writeText(writer, info.utcTime);
  return rv;
}

CK_RV call_C_GetMechanismList(JobContext& context, Reader& reader, Writer& writer) {
  const CK_SLOT_ID slot = reader.u64();
  return writeList(writer, [&](CK_ULONG* items, CK_ULONG* count) {
    return context.functions->C_GetMechanismList(slot, items, count);
  });
}

CK_RV call_C_GetMechanismInfo(JobContext& context, Reader& reader, Writer& writer) {
  const CK_SLOT_ID slot = reader.u64();
  CK_MECHANISM_INFO info{};
  const CK_RV rv = context.functions->C_GetMechanismInfo(slot, reader.u64(), &info);
  writer.u64(info.ulMinKeySize);
  writer.u64(info.ulMaxKeySize);
  writer.u64(info.flags);
  return rv;
}

// Reports that the lane's session is open; a job opens the session before its first step.
CK_RV call_C_OpenSession(JobContext& context, Reader& reader, Writer& writer) { return context.session.ensure(); }

CK_RV call_C_GetSessionInfo(JobContext& context, Reader& reader, Writer& writer) {
  CK_SESSION_INFO info{};
  const CK_RV rv = context.functions->C_GetSessionInfo(context.handle(), &info);
  writer.u64(info.slotID);
  writer.u64(info.state);
  writer.u64(info.flags);
  writer.u64(info.ulDeviceError);
  return rv;
}

// Logs in on the anchor session: a login holds for all sessions of a process on that token.
CK_RV call_C_Login(JobContext& context, Reader& reader, Writer& writer) {
  const CK_USER_TYPE user = reader.u64();
  const Bytes pin = reader.sized();
  return context.module.login(user, pin.data(), pin.size());
}

// Switches the job's next steps to the held session of a number: a new session, or the one that an earlier job opened.
// Returns CKR_SESSION_CLOSED if the session was released or lost, or another job uses it.
CK_RV call_X_Hold(JobContext& context, Reader& reader, Writer& writer) {
  const std::uint64_t number = reader.u64();
  const bool isNew = reader.u8() != 0;
  std::shared_ptr<HeldSession> held;
  if (isNew) {
    const CK_RV rv = context.heldSessions.open(number, held);
    if (rv != CKR_OK) return rv;
  } else {
    held = context.heldSessions.find(number);
  }
  if (!held || !held->isCurrent()) return CKR_SESSION_CLOSED;
  std::unique_lock<std::mutex> holding(held->inUse, std::try_to_lock);
  if (!holding.owns_lock()) return CKR_SESSION_CLOSED;
  context.heldNumber = number;
  context.held = std::move(held);
  context.holding = std::move(holding);
  return CKR_OK;
}

CK_RV call_X_Release(JobContext& context, Reader& reader, Writer& writer) {
  context.heldSessions.release(reader.u64());
  return CKR_OK;
}

// Logs in for an operation whose key has CKA_ALWAYS_AUTHENTICATE (CKU_CONTEXT_SPECIFIC). The PIN is at the packet's
// end, after all other steps.
CK_RV call_X_LogInAgain(JobContext& context, Reader& reader, Writer& writer) {
  const Bytes pin = reader.tail(reader.u32());
  return context.functions->C_Login(context.handle(), CKU_CONTEXT_SPECIFIC, pin.data(), pin.size());
}

// Changes a PIN on the anchor session: that of the user logged in there, or the normal user's if no user is. The new
// PIN must end with the packet, so that a wrong length never sets an unknown PIN.
CK_RV call_C_SetPIN(JobContext& context, Reader& reader, Writer& writer) {
  const std::uint32_t oldLength = reader.u32();
  const std::uint32_t newLength = reader.u32();
  const Bytes oldPin = reader.take(oldLength);
  const Bytes newPin = reader.take(newLength);
  if (!reader.atEnd()) throw Malformed("the packet is longer than its PINs");
  return context.functions->C_SetPIN(context.module.anchor(), oldPin.data(), oldPin.size(), newPin.data(),
                                     newPin.size());
}

}  // namespace pkcs11ha
