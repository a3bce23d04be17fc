// Signatures and MACs, also with recovery of the data (PKCS#11 2.40, sections 5.11 and 5.12).
#include "host/job.h"
#include "host/output.h"

namespace pkcs11ha {
namespace {

// Room for a signature (bytes), before the token asks for more.
constexpr std::size_t kSignatureRoom = 1024;

using Init = CK_RV (*)(CK_SESSION_HANDLE, CK_MECHANISM*, CK_OBJECT_HANDLE);
using Transform = CK_RV (*)(CK_SESSION_HANDLE, CK_BYTE*, CK_ULONG, CK_BYTE*, CK_ULONG*);

CK_RV begin(JobContext& context, Reader& reader, Init init) {
  Mechanism mechanism = Mechanism::read(reader, context.held != nullptr);
  const CK_RV rv = init(context.handle(), mechanism.raw(), context.readObject(reader));
  if (rv == CKR_OK) context.began();
  context.keepMechanism(std::move(mechanism));
  return rv;
}

CK_RV transform(JobContext& context, Reader& reader, Writer& writer, Transform call) {
  const Bytes data = reader.sized();
  const CK_RV rv = writeOutput(writer, kSignatureRoom, [&](CK_BYTE* output, CK_ULONG* size) {
    return call(context.handle(), data.data(), data.size(), output, size);
  });
  if (rv != CKR_BUFFER_TOO_SMALL) context.ended();
  return rv;
}

}  // namespace

CK_RV call_C_SignInit(JobContext& context, Reader& reader, Writer& writer) {
  return begin(context, reader, context.functions->C_SignInit);
}

CK_RV call_C_Sign(JobContext& context, Reader& reader, Writer& writer) {
  return transform(context, reader, writer, context.functions->C_Sign);
}

CK_RV call_C_SignUpdate(JobContext& context, Reader& reader, Writer& writer) {
  const Bytes data = reader.sized();
  return context.functions->C_SignUpdate(context.handle(), data.data(), data.size());
}

CK_RV call_C_SignFinal(JobContext& context, Reader& reader, Writer& writer) {
  const CK_RV rv = writeOutput(writer, kSignatureRoom, [&](CK_BYTE* signature, CK_ULONG* size) {
    return context.functions->C_SignFinal(context.handle(), signature, size);
  });
  if (rv != CKR_BUFFER_TOO_SMALL) context.ended();
  return rv;
}

CK_RV call_C_VerifyInit(JobContext& context, Reader& reader, Writer& writer) {
  return begin(context, reader, context.functions->C_VerifyInit);
}

CK_RV call_C_Verify(JobContext& context, Reader& reader, Writer& writer) {
  const Bytes data = reader.sized();
  const Bytes signature = reader.sized();
  const CK_RV rv =
      context.functions->C_Verify(context.handle(), data.data(), data.size(), signature.data(), signature.size());
  context.ended();
  return rv;
}

CK_RV call_C_VerifyUpdate(JobContext& context, Reader& reader, Writer& writer) {
  const Bytes data = reader.sized();
  return context.functions->C_VerifyUpdate(context.handle(), data.data(), data.size());
}

CK_RV call_C_VerifyFinal(JobContext& context, Reader& reader, Writer& writer) {
  const Bytes signature = reader.sized();
  const CK_RV rv = context.functions->C_VerifyFinal(context.handle(), signature.data(), signature.size());
  context.ended();
  return rv;
}

CK_RV call_C_SignRecoverInit(JobContext& context, Reader& reader, Writer& writer) {
  return begin(context, reader, context.functions->C_SignRecoverInit);
}

CK_RV call_C_SignRecover(JobContext& context, Reader& reader, Writer& writer) {
  return transform(context, reader, writer, context.functions->C_SignRecover);
}

CK_RV call_C_VerifyRecoverInit(JobContext& context, Reader& reader, Writer& writer) {
  return begin(context, reader, context.functions->C_VerifyRecoverInit);
}

CK_RV call_C_VerifyRecover(JobContext& context, Reader& reader, Writer& writer) {
  return transform(context, reader, writer, context.functions->C_VerifyRecover);
}

}  // namespace pkcs11ha
