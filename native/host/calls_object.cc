// Object calls (PKCS#11 2.40, section 5.7).
#include "host/attributes.h"

#include <algorithm>

namespace pkcs11ha {
namespace {

constexpr std::size_t kFirstRoom = 128;
constexpr CK_ULONG kFindBatch = 64;

enum class Presence : std::uint8_t { present = 0, sensitive = 1, invalid = 2 };

bool isPartial(CK_RV rv) {
  return rv == CKR_ATTRIBUTE_SENSITIVE || rv == CKR_ATTRIBUTE_TYPE_INVALID || rv == CKR_BUFFER_TOO_SMALL;
}

// One attribute that did not fit or failed in the common query: asked alone, so that its own code is known.
CK_RV readAlone(JobContext& context, CK_OBJECT_HANDLE object, CK_ATTRIBUTE& attribute, std::vector<std::uint8_t>& room) {
  attribute.pValue = nullptr;
  attribute.ulValueLen = 0;
  CK_RV rv = context.functions->C_GetAttributeValue(context.handle(), object, &attribute, 1);
  if (rv != CKR_OK) return rv;
  if (attribute.ulValueLen == CK_UNAVAILABLE_INFORMATION) return CKR_ATTRIBUTE_TYPE_INVALID;
  room.resize(attribute.ulValueLen);
  attribute.pValue = room.data();
  return room.empty() ? CKR_OK : context.functions->C_GetAttributeValue(context.handle(), object, &attribute, 1);
}

}  // namespace

std::vector<CK_ATTRIBUTE> readTemplate(Reader& reader) {
  const std::uint32_t count = reader.u32();
  std::vector<CK_ATTRIBUTE> attributes;
  for (std::uint32_t i = 0; i < count; ++i) {
    const CK_ATTRIBUTE_TYPE type = reader.u64();
    const Bytes value = reader.sized();
    attributes.push_back({type, value.empty() ? nullptr : value.data(), value.size()});
  }
  return attributes;
}

std::vector<CK_ATTRIBUTE_TYPE> readTypes(Reader& reader) {
  const std::uint32_t count = reader.u32();
  std::vector<CK_ATTRIBUTE_TYPE> types;
  for (std::uint32_t i = 0; i < count; ++i) types.push_back(reader.u64());
  return types;
}

CK_RV writeAttributes(JobContext& context, CK_OBJECT_HANDLE object, const std::vector<CK_ATTRIBUTE_TYPE>& types,
                      Writer& writer) {
  std::vector<std::uint8_t> room(types.size() * kFirstRoom);
  std::vector<CK_ATTRIBUTE> attributes;
  for (std::size_t i = 0; i < types.size(); ++i) {
    attributes.push_back({types[i], room.data() + i * kFirstRoom, kFirstRoom});
  }
  const CK_RV common = context.functions->C_GetAttributeValue(context.handle(), object, attributes.data(), attributes.size());
  if (common != CKR_OK && !isPartial(common)) return common;
  writer.u32(static_cast<std::uint32_t>(types.size()));
  std::vector<std::uint8_t> alone;
  for (CK_ATTRIBUTE& attribute : attributes) {
    CK_RV rv = CKR_OK;
    if (attribute.ulValueLen == CK_UNAVAILABLE_INFORMATION || attribute.ulValueLen > kFirstRoom) {
      rv = readAlone(context, object, attribute, alone);
      if (rv != CKR_OK && !isPartial(rv)) return rv;
    }
    const Presence presence = rv == CKR_OK                    ? Presence::present
                              : rv == CKR_ATTRIBUTE_SENSITIVE ? Presence::sensitive
                                                              : Presence::invalid;
    writer.u8(static_cast<std::uint8_t>(presence));
    if (presence == Presence::present) {
      writer.sized({static_cast<const std::uint8_t*>(attribute.pValue), attribute.ulValueLen});
    } else {
      writer.sized({});
    }
  }
  return CKR_OK;
}

// FindObjectsInit to FindObjectsFinal, then the attributes of each object found, at most `most` of them. An
// object that vanished between the two is left out.
CK_RV call_X_Find(JobContext& context, Reader& reader, Writer& writer) {
  std::vector<CK_ATTRIBUTE> wanted = readTemplate(reader);
  const std::uint32_t most = reader.u32();
  const std::vector<CK_ATTRIBUTE_TYPE> types = readTypes(reader);
  CK_FUNCTION_LIST* functions = context.functions;
  CK_RV rv = functions->C_FindObjectsInit(context.handle(), wanted.empty() ? nullptr : wanted.data(), wanted.size());
  if (rv != CKR_OK) return rv;
  std::vector<CK_OBJECT_HANDLE> found;
  while (found.size() < most) {
    CK_OBJECT_HANDLE batch[kFindBatch];
    CK_ULONG count = 0;
    rv = functions->C_FindObjects(context.handle(), batch, std::min<CK_ULONG>(kFindBatch, most - found.size()), &count);
    if (rv != CKR_OK || count == 0) break;
    found.insert(found.end(), batch, batch + std::min(count, kFindBatch));
  }
  const CK_RV final = functions->C_FindObjectsFinal(context.handle());
  if (rv != CKR_OK) return rv;
  if (final != CKR_OK) return final;

  const std::size_t countAt = writer.size();
  std::uint32_t count = 0;
  writer.u32(0);
  for (const CK_OBJECT_HANDLE object : found) {
    const std::size_t entry = writer.size();
    writer.u64(object);
    rv = writeAttributes(context, object, types, writer);
    if (rv == CKR_OBJECT_HANDLE_INVALID) {
      writer.cut(entry);
      continue;
    }
    if (rv != CKR_OK) return rv;
    ++count;
  }
  writer.patch32(countAt, count);
  if (!found.empty()) context.objects.back() = found.front();
  return CKR_OK;
}

CK_RV call_C_GetAttributeValue(JobContext& context, Reader& reader, Writer& writer) {
  const CK_OBJECT_HANDLE object = context.readObject(reader);
  return writeAttributes(context, object, readTypes(reader), writer);
}

CK_RV call_C_CreateObject(JobContext& context, Reader& reader, Writer& writer) {
  std::vector<CK_ATTRIBUTE> attributes = readTemplate(reader);
  CK_OBJECT_HANDLE object = CK_INVALID_HANDLE;
  const CK_RV rv = context.functions->C_CreateObject(context.handle(), attributes.data(), attributes.size(), &object);
  context.objects.back() = object;
  writer.u64(object);
  return rv;
}

CK_RV call_C_DestroyObject(JobContext& context, Reader& reader, Writer& writer) {
  return context.functions->C_DestroyObject(context.handle(), context.readObject(reader));
}

}  // namespace pkcs11ha
