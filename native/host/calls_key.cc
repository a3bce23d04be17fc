// Key derivation and random numbers (PKCS#11 2.40, sections 5.14 and 5.15).
#include "host/attributes.h"

namespace pkcs11ha {

CK_RV call_C_DeriveKey(JobContext& context, Reader& reader, Writer& writer) {
  Mechanism mechanism = Mechanism::read(reader);
  const CK_OBJECT_HANDLE base = context.readObject(reader);
  Template attributes = Template::read(reader);
  CK_OBJECT_HANDLE object = CK_INVALID_HANDLE;
  const CK_RV rv = context.functions->C_DeriveKey(context.handle(), mechanism.raw(), base, attributes.data(),
                                                  attributes.size(), &object);
  context.objects.back() = object;
  writer.u64(object);
  return rv;
}

CK_RV call_C_GenerateRandom(JobContext& context, Reader& reader, Writer& writer) {
  const std::uint32_t size = reader.u32();
  const std::size_t begin = writer.beginSized();
  const CK_RV rv = context.functions->C_GenerateRandom(context.handle(), writer.reserve(begin, size).data(), size);
  writer.finishSized(begin, rv == CKR_OK ? size : 0);
  return rv;
}

}  // namespace pkcs11ha
