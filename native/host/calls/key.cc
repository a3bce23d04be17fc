// Key management and random numbers (PKCS#11 2.40, sections 5.14 and 5.15).
#include "common/packet.h"
#include "host/attributes.h"
#include "host/making.h"
#include "host/output.h"

namespace pkcs11ha {
namespace {

// Room for a wrapped key (bytes), before the token asks for more.
constexpr std::size_t kWrappedRoom = 4096;

}  // namespace

CK_RV call_C_GenerateKey(JobContext& context, Reader& reader, Writer& writer) {
  Mechanism mechanism = Mechanism::read(reader);
  Template attributes = Template::read(reader);
  CK_OBJECT_HANDLE object = CK_INVALID_HANDLE;
  CK_RV rv = context.functions->C_GenerateKey(context.creationSession(), mechanism.raw(), attributes.data(),
                                              attributes.size(), &object);
  rv = context.noteCreated(rv, object);
  writer.u64(object);
  return rv;
}

CK_RV call_C_GenerateKeyPair(JobContext& context, Reader& reader, Writer& writer) {
  Mechanism mechanism = Mechanism::read(reader);
  Template publicAttributes = Template::read(reader);
  Template privateAttributes = Template::read(reader);
  CK_OBJECT_HANDLE publicKey = CK_INVALID_HANDLE;
  CK_OBJECT_HANDLE privateKey = CK_INVALID_HANDLE;
  CK_RV rv = context.functions->C_GenerateKeyPair(
      context.creationSession(), mechanism.raw(), publicAttributes.data(), publicAttributes.size(),
      privateAttributes.data(), privateAttributes.size(), &publicKey, &privateKey);
  rv = context.noteCreated(rv, privateKey);
  rv = context.noteCreated(rv, publicKey);
  context.privateKeys.back() = privateKey;
  writer.u64(publicKey);
  writer.u64(privateKey);
  return rv;
}

CK_RV call_C_WrapKey(JobContext& context, Reader& reader, Writer& writer) {
  Mechanism mechanism = Mechanism::read(reader);
  const CK_OBJECT_HANDLE wrapping = context.readObject(reader);
  const CK_OBJECT_HANDLE key = context.readObject(reader);
  return writeOutput(writer, kWrappedRoom, [&](CK_BYTE* wrapped, CK_ULONG* size) {
    return context.functions->C_WrapKey(context.handle(), mechanism.raw(), wrapping, key, wrapped, size);
  });
}

CK_RV unwrapKey(JobContext& context, Reader& reader, const Template* changes, CK_OBJECT_HANDLE& object) {
  Mechanism mechanism = Mechanism::read(reader);
  const CK_OBJECT_HANDLE unwrapping = context.readObject(reader);
  const Bytes wrapped = reader.sized();
  Template attributes = Template::read(reader);
  if (changes != nullptr) attributes.set(*changes);
  return context.functions->C_UnwrapKey(context.creationSession(), mechanism.raw(), unwrapping, wrapped.data(),
                                        wrapped.size(), attributes.data(), attributes.size(), &object);
}

CK_RV call_C_UnwrapKey(JobContext& context, Reader& reader, Writer& writer) {
  CK_OBJECT_HANDLE object = CK_INVALID_HANDLE;
  CK_RV rv = unwrapKey(context, reader, nullptr, object);
  rv = context.noteCreated(rv, object);
  writer.u64(object);
  return rv;
}

CK_RV deriveKey(JobContext& context, Reader& reader, const Template* changes, CK_OBJECT_HANDLE& object) {
  Mechanism mechanism = Mechanism::read(reader);
  const CK_OBJECT_HANDLE base = context.readObject(reader);
  Template attributes = Template::read(reader);
  if (changes != nullptr) attributes.set(*changes);
  return context.functions->C_DeriveKey(context.creationSession(), mechanism.raw(), base, attributes.data(),
                                        attributes.size(), &object);
}

CK_RV call_C_DeriveKey(JobContext& context, Reader& reader, Writer& writer) {
  CK_OBJECT_HANDLE object = CK_INVALID_HANDLE;
  CK_RV rv = deriveKey(context, reader, nullptr, object);
  rv = context.noteCreated(rv, object);
  writer.u64(object);
  return rv;
}

CK_RV call_C_SeedRandom(JobContext& context, Reader& reader, Writer& writer) {
  const Bytes seed = reader.sized();
  return context.functions->C_SeedRandom(context.handle(), seed.data(), seed.size());
}

CK_RV call_C_GenerateRandom(JobContext& context, Reader& reader, Writer& writer) {
  const std::uint32_t size = reader.u32();
  // No reply of that size can be sent.
  if (size > kPacketLimit) return CKR_HOST_MEMORY;
  const std::size_t begin = writer.beginSized();
  const CK_RV rv = context.functions->C_GenerateRandom(context.handle(), writer.reserve(begin, size).data(), size);
  writer.finishSized(begin, rv == CKR_OK ? size : 0);
  return rv;
}

}  // namespace pkcs11ha
