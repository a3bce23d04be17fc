// Encryption, decryption and digests (PKCS#11 2.40, sections 5.8 to 5.10).
#include "host/job.h"
#include "host/output.h"

namespace pkcs11ha {
namespace {

constexpr std::size_t kCipherRoom = 1024;  // Room beyond the input (bytes): padding, a tag, an RSA block
constexpr std::size_t kDigestRoom = 64;    // Room for a digest (bytes)

using CipherInit = CK_RV (*)(CK_SESSION_HANDLE, CK_MECHANISM*, CK_OBJECT_HANDLE);
using CipherFinal = CK_RV (*)(CK_SESSION_HANDLE, CK_BYTE*, CK_ULONG*);
using Cipher = CK_RV (*)(CK_SESSION_HANDLE, CK_BYTE*, CK_ULONG, CK_BYTE*, CK_ULONG*);

CK_RV begin(JobContext& context, Reader& reader, Writer& writer, CipherInit init) {
  Mechanism mechanism = Mechanism::read(reader, context.held != nullptr);
  const CK_RV rv = init(context.handle(), mechanism.raw(), context.readObject(reader));
  if (rv == CKR_OK) context.began();
  context.keepMechanism(std::move(mechanism));
  return rv;
}

void writeReturned(const JobContext& context, Writer& writer) {
  const Mechanism* mechanism = context.cipherMechanism();
  if (mechanism == nullptr) {
    writer.u32(0);
  } else {
    mechanism->writeReturned(writer);
  }
}

CK_RV process(JobContext& context, Reader& reader, Writer& writer, Cipher cipher) {
  const Bytes input = reader.sized();
  const CK_RV rv = writeOutput(writer, input.size() + kCipherRoom, [&](CK_BYTE* output, CK_ULONG* size) {
    return cipher(context.handle(), input.data(), input.size(), output, size);
  });
  writeReturned(context, writer);
  return rv;
}

CK_RV finish(JobContext& context, Reader& reader, Writer& writer, Cipher cipher) {
  const CK_RV rv = process(context, reader, writer, cipher);
  if (rv != CKR_BUFFER_TOO_SMALL) context.ended();
  return rv;
}

CK_RV finishParts(JobContext& context, Writer& writer, CipherFinal final) {
  const CK_RV rv = writeOutput(writer, kCipherRoom, [&](CK_BYTE* output, CK_ULONG* size) {
    return final(context.handle(), output, size);
  });
  if (rv != CKR_BUFFER_TOO_SMALL) context.ended();
  writeReturned(context, writer);
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

// Returns at most the input of this Update and what earlier Updates held back.
CK_RV call_C_EncryptUpdate(JobContext& context, Reader& reader, Writer& writer) {
  return process(context, reader, writer, context.functions->C_EncryptUpdate);
}

CK_RV call_C_EncryptFinal(JobContext& context, Reader& reader, Writer& writer) {
  return finishParts(context, writer, context.functions->C_EncryptFinal);
}

CK_RV call_C_DecryptUpdate(JobContext& context, Reader& reader, Writer& writer) {
  return process(context, reader, writer, context.functions->C_DecryptUpdate);
}

CK_RV call_C_DecryptFinal(JobContext& context, Reader& reader, Writer& writer) {
  return finishParts(context, writer, context.functions->C_DecryptFinal);
}

CK_RV call_C_DigestInit(JobContext& context, Reader& reader, Writer& writer) {
  Mechanism mechanism = Mechanism::read(reader, context.held != nullptr);
  const CK_RV rv = context.functions->C_DigestInit(context.handle(), mechanism.raw());
  if (rv == CKR_OK) context.began();
  context.keepMechanism(std::move(mechanism));
  return rv;
}

CK_RV call_C_Digest(JobContext& context, Reader& reader, Writer& writer) {
  const Bytes input = reader.sized();
  const CK_RV rv = writeOutput(writer, kDigestRoom, [&](CK_BYTE* output, CK_ULONG* size) {
    return context.functions->C_Digest(context.handle(), input.data(), input.size(), output, size);
  });
  if (rv != CKR_BUFFER_TOO_SMALL) context.ended();
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
  if (rv != CKR_BUFFER_TOO_SMALL) context.ended();
  return rv;
}

}  // namespace pkcs11ha
