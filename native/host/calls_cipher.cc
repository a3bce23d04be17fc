// Encryption, decryption and digests (PKCS#11 2.40, sections 5.8 to 5.10).
#include "host/job.h"
#include "host/output.h"

namespace pkcs11ha {
namespace {

constexpr std::size_t kCipherRoom = 1024;  // above the input: padding, a tag, an RSA block
constexpr std::size_t kDigestRoom = 64;

using CipherInit = CK_RV (*)(CK_SESSION_HANDLE, CK_MECHANISM*, CK_OBJECT_HANDLE);
using Cipher = CK_RV (*)(CK_SESSION_HANDLE, CK_BYTE*, CK_ULONG, CK_BYTE*, CK_ULONG*);

CK_RV begin(JobContext& context, Reader& reader, Writer& writer, CipherInit init) {
  Mechanism mechanism = Mechanism::read(reader);
  const CK_RV rv = init(context.handle(), mechanism.raw(), context.readObject(reader));
  if (rv == CKR_OK) context.session.began();
  context.cipher = context.mechanisms.size();
  context.mechanisms.push_back(std::move(mechanism));
  return rv;
}

CK_RV finish(JobContext& context, Reader& reader, Writer& writer, Cipher cipher) {
  const Bytes input = reader.sized();
  const CK_RV rv = writeOutput(writer, input.size() + kCipherRoom, [&](CK_BYTE* output, CK_ULONG* size) {
    return cipher(context.handle(), input.data(), input.size(), output, size);
  });
  if (rv != CKR_BUFFER_TOO_SMALL) context.session.ended();
  if (context.cipher < context.mechanisms.size()) {
    context.mechanisms[context.cipher].writeReturned(writer);
  } else {
    writer.u32(0);
  }
  return rv;
}

}  // namespace

CK_RV call_C_EncryptInit(JobContext& context, Reader& reader, Writer& writer) {
  return begin(context, reader, writer, context.functions->C_EncryptInit);
}

CK_RV call_C_Encrypt(JobContext& context, Reader& reader, Writer& writer) {
  return finish(context, reader, writer, context.functions->C_Encrypt);
}

CK_RV call_C_DecryptInit(JobContext& context, Reader& reader, Writer& writer) {
  return begin(context, reader, writer, context.functions->C_DecryptInit);
}

CK_RV call_C_Decrypt(JobContext& context, Reader& reader, Writer& writer) {
  return finish(context, reader, writer, context.functions->C_Decrypt);
}

CK_RV call_C_DigestInit(JobContext& context, Reader& reader, Writer& writer) {
  Mechanism mechanism = Mechanism::read(reader);
  const CK_RV rv = context.functions->C_DigestInit(context.handle(), mechanism.raw());
  if (rv == CKR_OK) context.session.began();
  context.mechanisms.push_back(std::move(mechanism));
  return rv;
}

CK_RV call_C_Digest(JobContext& context, Reader& reader, Writer& writer) {
  const Bytes input = reader.sized();
  const CK_RV rv = writeOutput(writer, kDigestRoom, [&](CK_BYTE* output, CK_ULONG* size) {
    return context.functions->C_Digest(context.handle(), input.data(), input.size(), output, size);
  });
  if (rv != CKR_BUFFER_TOO_SMALL) context.session.ended();
  return rv;
}

CK_RV call_C_DigestUpdate(JobContext& context, Reader& reader, Writer& writer) {
  const Bytes input = reader.sized();
  return context.functions->C_DigestUpdate(context.handle(), input.data(), input.size());
}

CK_RV call_C_DigestKey(JobContext& context, Reader& reader, Writer& writer) {
  return context.functions->C_DigestKey(context.handle(), context.readObject(reader));
}

CK_RV call_C_DigestFinal(JobContext& context, Reader& reader, Writer& writer) {
  const CK_RV rv = writeOutput(writer, kDigestRoom, [&](CK_BYTE* output, CK_ULONG* size) {
    return context.functions->C_DigestFinal(context.handle(), output, size);
  });
  if (rv != CKR_BUFFER_TOO_SMALL) context.session.ended();
  return rv;
}

}  // namespace pkcs11ha
