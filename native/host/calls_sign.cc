// Signatures and MACs (PKCS#11 2.40, sections 5.11 and 5.12).
#include "host/job.h"
#include "host/output.h"

namespace pkcs11ha {
namespace {

constexpr std::size_t kSignatureRoom = 1024;

}  // namespace

CK_RV call_C_SignInit(JobContext& context, Reader& reader, Writer& writer) {
  Mechanism mechanism = Mechanism::read(reader);
  const CK_RV rv = context.functions->C_SignInit(context.handle(), mechanism.raw(), context.readObject(reader));
  if (rv == CKR_OK) context.session.began();
  context.mechanisms.push_back(std::move(mechanism));
  return rv;
}

CK_RV call_C_Sign(JobContext& context, Reader& reader, Writer& writer) {
  const Bytes data = reader.sized();
  const CK_RV rv = writeOutput(writer, kSignatureRoom, [&](CK_BYTE* signature, CK_ULONG* size) {
    return context.functions->C_Sign(context.handle(), data.data(), data.size(), signature, size);
  });
  if (rv != CKR_BUFFER_TOO_SMALL) context.session.ended();
  return rv;
}

CK_RV call_C_VerifyInit(JobContext& context, Reader& reader, Writer& writer) {
  Mechanism mechanism = Mechanism::read(reader);
  const CK_RV rv = context.functions->C_VerifyInit(context.handle(), mechanism.raw(), context.readObject(reader));
  if (rv == CKR_OK) context.session.began();
  context.mechanisms.push_back(std::move(mechanism));
  return rv;
}

CK_RV call_C_Verify(JobContext& context, Reader& reader, Writer& writer) {
  const Bytes data = reader.sized();
  const Bytes signature = reader.sized();
  const CK_RV rv =
      context.functions->C_Verify(context.handle(), data.data(), data.size(), signature.data(), signature.size());
  context.session.ended();
  return rv;
}

}  // namespace pkcs11ha
