#include "host/job.h"

#include <algorithm>
#include <array>
#include <vector>

namespace pkcs11ha {
namespace {

// Number of entries of the table of calls; the numbers in calls.def are below it.
constexpr std::size_t kCalls = 128;

constexpr std::array<Call, kCalls> kTable = [] {
  std::array<Call, kCalls> table{};
#define CALL(number, name) table[number] = call_##name;
#include "host/calls/calls.def"
#undef CALL
  return table;
}();

// Numbers in calls.def of the calls that are treated differently.
constexpr std::uint32_t kLoad = 1;
constexpr std::uint32_t kHold = 6;
constexpr std::uint32_t kOpenSession = 17;
constexpr std::uint32_t kHoldClaim = 90;
constexpr std::uint32_t kDropClaim = 91;

constexpr bool isOnClaim(std::uint32_t number) { return number == kHoldClaim || number == kDropClaim; }

// If the job asks for undo, destroys the objects that a failed job created, last first. Returns false if an object is
// left.
bool isUndone(const job::Header& header, JobContext& context) {
  if ((header.flags & job::kUndo) == 0 || context.functions == nullptr) return true;
  bool isClean = true;
  for (auto object = context.created.rbegin(); object != context.created.rend(); ++object) {
    const CK_RV rv = context.functions->C_DestroyObject(context.handle(), *object);
    if (rv != CKR_OK && rv != CKR_OBJECT_HANDLE_INVALID) isClean = false;
  }
  context.created.clear();
  return isClean;
}

// Runs a step and writes its result: the step's call number, its CKR, and after CKR_OK the call's output.
CK_RV runStep(std::uint32_t number, JobContext& context, Reader& reader, Writer& writer) {
  const std::uint32_t index = number & ~job::kOptional;
  const Call call = index < kCalls ? kTable[index] : nullptr;
  if (call == nullptr) throw Malformed("unknown call");
  writer.u32(number);
  const std::size_t rvAt = writer.size();
  writer.u64(0);
  const std::size_t outputAt = writer.size();
  context.objects.push_back(CK_INVALID_HANDLE);
  context.privateKeys.push_back(CK_INVALID_HANDLE);
  context.origins.push_back({index, reader});
  context.functions = context.module.functions();
  const bool needsModule = index != kLoad && !isOnClaim(index);
  const CK_RV rv = needsModule && context.functions == nullptr ? CKR_CRYPTOKI_NOT_INITIALIZED
                                                               : call(context, reader, writer);
  // Skips calls whose result concerns a held session or a claim, not the lane's session.
  if (index != kHold && !isOnClaim(index)) context.notice(rv);
  // Drops the output of a failed call, except the reason why a library did not load.
  if (rv != CKR_OK && index != kLoad) writer.cut(outputAt);
  writer.patch64(rvAt, rv);
  return rv;
}

}  // namespace

job::Header job::Header::read(Reader& reader) {
  Header header{};
  header.id = reader.u64();
  header.deadline = reader.u64();
  header.flags = reader.u32();
  header.steps = reader.u32();
  return header;
}

CK_OBJECT_HANDLE JobContext::readObject(Reader& reader) const {
  const std::uint8_t kind = reader.u8();
  const std::uint64_t value = reader.u64();
  if (kind == 0) return value;
  if (value >= objects.size()) throw Malformed("a step refers to a step that has not run");
  return kind == 1 ? objects[value] : privateKeys[value];
}

std::optional<JobContext::Origin> JobContext::originAt(Reader reader) const {
  constexpr std::uint8_t kMade = 1;
  const std::uint8_t kind = reader.u8();
  const std::uint64_t step = reader.u64();
  if (kind != kMade || step >= origins.size() || objects[step] == CK_INVALID_HANDLE) return std::nullopt;
  return origins[step];
}

CK_RV JobContext::noteCreated(CK_RV rv, CK_OBJECT_HANDLE object) {
  if (rv != CKR_OK) return rv;
  if (object == CK_INVALID_HANDLE) return CKR_GENERAL_ERROR;
  objects.back() = object;
  created.push_back(object);
  return CKR_OK;
}

void JobContext::began() {
  if (!held) session.began();
}

void JobContext::ended() {
  if (!held) session.ended();
}

void JobContext::notice(CK_RV rv) {
  if (!held) session.notice(rv);
}

void JobContext::keepMechanism(Mechanism mechanism) {
  if (held) {
    held->mechanisms.push_back(std::move(mechanism));
  } else {
    cipher = mechanisms.size();
    mechanisms.push_back(std::move(mechanism));
  }
}

const Mechanism* JobContext::cipherMechanism() const {
  if (held) return held->mechanisms.empty() ? nullptr : &held->mechanisms.back();
  return cipher < mechanisms.size() ? &mechanisms[cipher] : nullptr;
}

void JobContext::forgetCreated(CK_OBJECT_HANDLE object) {
  std::erase(created, object);
  std::ranges::replace(objects, object, CK_OBJECT_HANDLE{CK_INVALID_HANDLE});
  std::ranges::replace(privateKeys, object, CK_OBJECT_HANDLE{CK_INVALID_HANDLE});
}

void writeStatus(std::uint64_t id, job::Status status, WipedBytes& reply) {
  reply.clear();
  Writer writer(reply);
  writer.u64(id);
  writer.u32(static_cast<std::uint32_t>(status));
  writer.u32(0);
}

void runJob(const job::Header& header, Reader& reader, JobContext& context, WipedBytes& reply) {
  writeStatus(header.id, job::Status::done, reply);
  Writer writer(reply);
  const std::size_t countAt = writer.size() - sizeof(std::uint32_t);
  std::uint32_t count = 0;
  try {
    if ((header.flags & job::kSessionless) == 0) {
      if (header.flags & job::kOnNewSession) context.session.discard();
      const CK_RV rv = context.session.ensure();
      if (rv != CKR_OK) {
        writer.u32(kOpenSession);
        writer.u64(rv);
        writer.patch32(countAt, 1);
        return;
      }
      CK_FUNCTION_LIST* functions = context.module.functions();
      if (context.locksToken && functions != nullptr) context.tokenLock->look(*functions, context.session.handle());
    }
    while (count < header.steps) {
      const std::uint32_t number = reader.u32();
      const CK_RV rv = runStep(number, context, reader, writer);
      writer.patch32(countAt, ++count);
      if (rv == CKR_OK || (number & job::kOptional) != 0) continue;
      // Releases the held session, because a failed call ends the operation that the session is held for.
      if (context.heldNumber != 0) context.heldSessions.release(context.heldNumber);
      if (!isUndone(header, context)) {
        writer.patch32(countAt - sizeof count, static_cast<std::uint32_t>(job::Status::unclean));
      }
      break;
    }
  } catch (const Malformed&) {
    writeStatus(header.id, isUndone(header, context) ? job::Status::malformed : job::Status::unclean, reply);
  } catch (const std::exception&) {
    // Reports a reply that does not fit the host's memory.
    writeStatus(header.id, isUndone(header, context) ? job::Status::unsendable : job::Status::unclean, reply);
  }
  if ((header.flags & job::kSessionless) == 0) context.session.closeUnlessIdle();
}

}  // namespace pkcs11ha
