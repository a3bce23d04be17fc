#include "host/job.h"

#include <array>
#include <vector>

namespace pkcs11ha {
namespace {

constexpr std::size_t kCalls = 128;

constexpr std::array<Call, kCalls> kTable = [] {
  std::array<Call, kCalls> table{};
#define CALL(number, name) table[number] = call_##name;
#include "host/calls/calls.def"
#undef CALL
  return table;
}();

constexpr std::uint32_t kHold = 6;
constexpr std::uint32_t kOpenSession = 17;

// Destroys what a failed job made, the last first, where it asks for that; false when something is left.
bool isUndone(const job::Header& header, JobContext& context) {
  if ((header.flags & job::kUndo) == 0 || context.functions == nullptr) return true;
  bool isClean = true;
  for (auto object = context.made.rbegin(); object != context.made.rend(); ++object) {
    const CK_RV rv = context.functions->C_DestroyObject(context.handle(), *object);
    if (rv != CKR_OK && rv != CKR_OBJECT_HANDLE_INVALID) isClean = false;
  }
  context.made.clear();
  return isClean;
}

// A step's result: its call as it was asked for, its CKR, and, after CKR_OK, what the call writes.
CK_RV runStep(std::uint32_t number, JobContext& context, Reader& reader, Writer& writer) {
  const std::uint32_t index = number & ~job::kOptional;
  const Call call = index < kCalls ? kTable[index] : nullptr;
  if (call == nullptr) throw Malformed("unknown call");
  writer.u32(number);
  const std::size_t rvAt = writer.size();
  writer.u64(0);
  const std::size_t outputAt = writer.size();
  context.objects.push_back(CK_INVALID_HANDLE);
  context.seconds.push_back(CK_INVALID_HANDLE);
  context.functions = context.module.functions();
  const bool needsModule = index != 1;
  const CK_RV rv = needsModule && context.functions == nullptr ? CKR_CRYPTOKI_NOT_INITIALIZED
                                                               : call(context, reader, writer);
  // What X_Hold says is of a held session, not of the lane's own.
  if (index != kHold) context.notice(rv);
  // Results of a failed call are not sent, except the text that says why a library did not load.
  if (rv != CKR_OK && needsModule) writer.cut(outputAt);
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
  return kind == 1 ? objects[value] : seconds[value];
}

CK_RV JobContext::make(CK_RV rv, CK_OBJECT_HANDLE object) {
  if (rv != CKR_OK) return rv;
  if (object == CK_INVALID_HANDLE) return CKR_GENERAL_ERROR;
  objects.back() = object;
  made.push_back(object);
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

void JobContext::keep(Mechanism mechanism) {
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

void JobContext::unmake(CK_OBJECT_HANDLE object) { std::erase(made, object); }

void writeStatus(std::uint64_t id, job::Status status, std::vector<std::uint8_t>& reply) {
  reply.clear();
  Writer writer(reply);
  writer.u64(id);
  writer.u32(static_cast<std::uint32_t>(status));
  writer.u32(0);
}

void runJob(const job::Header& header, Reader& reader, JobContext& context, std::vector<std::uint8_t>& reply) {
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
    }
    while (count < header.steps) {
      const std::uint32_t number = reader.u32();
      const CK_RV rv = runStep(number, context, reader, writer);
      writer.patch32(countAt, ++count);
      if (rv == CKR_OK || (number & job::kOptional) != 0) continue;
      // A call that failed has ended what its session was held for.
      if (context.heldNumber != 0) context.heldSessions.release(context.heldNumber);
      if (!isUndone(header, context)) {
        writer.patch32(countAt - sizeof count, static_cast<std::uint32_t>(job::Status::unclean));
      }
      break;
    }
  } catch (const Malformed&) {
    writeStatus(header.id, isUndone(header, context) ? job::Status::malformed : job::Status::unclean, reply);
  } catch (const std::exception&) {
    // No memory for what the token wants to say.
    writeStatus(header.id, isUndone(header, context) ? job::Status::unsendable : job::Status::unclean, reply);
  }
  if ((header.flags & job::kSessionless) == 0) context.session.settle();
}

}  // namespace pkcs11ha
