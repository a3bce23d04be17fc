// Object calls (PKCS#11 2.40, section 5.7).
#include "host/attributes.h"

#include <algorithm>

#include "common/packet.h"
#include "host/making.h"

namespace pkcs11ha {
namespace {

// Room for an attribute in the common query (bytes).
constexpr std::size_t kFirstRoom = 128;
// Number of handles that one C_FindObjects asks for.
constexpr CK_ULONG kFindBatch = 64;
// Maximum number of objects of one search: far above what any token holds.
constexpr std::size_t kMostFound = 10'000'000;
// Numbers in calls.def of the calls that make an object from what the job holds.
constexpr std::uint32_t kCreateObject = 31;
constexpr std::uint32_t kDeriveKey = 70;
constexpr std::uint32_t kUnwrapKey = 75;

enum class Presence : std::uint8_t { present = 0, sensitive = 1, invalid = 2 };

bool isPartial(CK_RV rv) {
  return rv == CKR_ATTRIBUTE_SENSITIVE || rv == CKR_ATTRIBUTE_TYPE_INVALID || rv == CKR_BUFFER_TOO_SMALL;
}

// Tells whether a code is that of a partial object, for instance after an interrupted write.
bool isHollow(CK_RV rv) { return rv == CKR_ATTRIBUTE_VALUE_INVALID; }

// Tells whether a code may concern a single attribute that the token cannot return (SoftHSM: dates).
bool isForOneAttribute(CK_RV rv) { return rv == CKR_GENERAL_ERROR || rv == CKR_FUNCTION_FAILED; }

// Replaces the type of a nested template by a type that no token has: a token would read addresses from the room for a
// nested template.
CK_ATTRIBUTE_TYPE withoutNested(CK_ATTRIBUTE_TYPE type) {
  constexpr CK_ATTRIBUTE_TYPE kNoSuchType = CKA_VENDOR_DEFINED | 0x7ffffffful;
  return (type & CKF_ARRAY_ATTRIBUTE) != 0 && type != CKA_ALLOWED_MECHANISMS ? kNoSuchType : type;
}

void writeNoAttributes(std::size_t types, Writer& writer) {
  writer.u32(static_cast<std::uint32_t>(types));
  for (std::size_t i = 0; i < types; ++i) {
    writer.u8(static_cast<std::uint8_t>(Presence::invalid));
    writer.sized({});
  }
}

// Reads one attribute alone, after it did not fit or failed in the common query, to learn its own code. Tries again if
// the attribute grew between the query for its size and the query for its value.
CK_RV readAlone(JobContext& context, CK_OBJECT_HANDLE object, CK_ATTRIBUTE& attribute, WipedBytes& room) {
  CK_RV rv = CKR_BUFFER_TOO_SMALL;
  for (int round = 0; rv == CKR_BUFFER_TOO_SMALL && round < 3; ++round) {
    attribute.pValue = nullptr;
    attribute.ulValueLen = 0;
    rv = context.functions->C_GetAttributeValue(context.handle(), object, &attribute, 1);
    if (rv != CKR_OK) return rv;
    if (attribute.ulValueLen == CK_UNAVAILABLE_INFORMATION) return CKR_ATTRIBUTE_TYPE_INVALID;
    if (attribute.ulValueLen > kPacketLimit) return CKR_HOST_MEMORY;
    room.resize(attribute.ulValueLen);
    if (room.empty()) return CKR_OK;
    attribute.pValue = room.data();
    rv = context.functions->C_GetAttributeValue(context.handle(), object, &attribute, 1);
  }
  return rv == CKR_OK && attribute.ulValueLen > room.size() ? CKR_GENERAL_ERROR : rv;
}

// Finds at most `most` objects that match a template.
CK_RV findAll(JobContext& context, CK_ATTRIBUTE* attributes, CK_ULONG size, std::size_t most,
              std::vector<CK_OBJECT_HANDLE>& found) {
  CK_FUNCTION_LIST* functions = context.functions;
  CK_RV rv = functions->C_FindObjectsInit(context.handle(), attributes, size);
  if (rv != CKR_OK) return rv;
  context.began();
  while (found.size() < most) {
    CK_OBJECT_HANDLE batch[kFindBatch];
    CK_ULONG count = 0;
    const CK_ULONG wanted = std::min<std::size_t>(kFindBatch, most - found.size());
    rv = functions->C_FindObjects(context.handle(), batch, wanted, &count);
    if (rv != CKR_OK || count == 0) break;
    // A library that gives more than was asked for, or objects without end, would take all memory.
    if (count > wanted || found.size() > kMostFound) {
      rv = CKR_GENERAL_ERROR;
      break;
    }
    found.insert(found.end(), batch, batch + count);
  }
  const CK_RV final = functions->C_FindObjectsFinal(context.handle());
  if (final == CKR_OK) context.ended();
  return rv != CKR_OK ? rv : final;
}

// Attributes that a copy has from its source, and that a token might set otherwise when it makes the object again.
constexpr CK_ATTRIBUTE_TYPE kInherited[] = {CKA_CLASS,   CKA_KEY_TYPE, CKA_PRIVATE, CKA_SENSITIVE, CKA_EXTRACTABLE,
                                            CKA_ENCRYPT, CKA_DECRYPT,  CKA_SIGN,    CKA_VERIFY,    CKA_WRAP,
                                            CKA_UNWRAP,  CKA_DERIVE};

// Tells whether two objects have the same inherited attributes, or both lack them.
bool isAlike(JobContext& context, CK_OBJECT_HANDLE one, CK_OBJECT_HANDLE other) {
  for (const CK_ATTRIBUTE_TYPE type : kInherited) {
    CK_ULONG values[2] = {0, 0};
    CK_ATTRIBUTE attributes[2] = {{type, &values[0], sizeof values[0]}, {type, &values[1], sizeof values[1]}};
    const CK_RV first = context.functions->C_GetAttributeValue(context.handle(), one, &attributes[0], 1);
    const CK_RV second = context.functions->C_GetAttributeValue(context.handle(), other, &attributes[1], 1);
    if (first != second) return false;
    const bool isThere = first == CKR_OK;
    if (isThere && (attributes[0].ulValueLen != attributes[1].ulValueLen || values[0] != values[1])) return false;
  }
  return true;
}

// Makes an object that an earlier step of the job has made, with other attributes: for libraries without C_CopyObject.
CK_RV makeAgain(JobContext& context, JobContext::Origin origin, CK_OBJECT_HANDLE source, const Template& changes,
                CK_OBJECT_HANDLE& object) {
  CK_RV rv = CKR_FUNCTION_NOT_SUPPORTED;
  if (origin.call == kCreateObject) rv = createObject(context, origin.arguments, &changes, object);
  if (origin.call == kUnwrapKey) rv = unwrapKey(context, origin.arguments, &changes, object);
  if (origin.call == kDeriveKey) rv = deriveKey(context, origin.arguments, &changes, object);
  if (rv != CKR_OK || isAlike(context, source, object)) return rv;
  context.functions->C_DestroyObject(context.handle(), object);
  object = CK_INVALID_HANDLE;
  return CKR_TEMPLATE_INCONSISTENT;
}

}  // namespace

std::vector<CK_ATTRIBUTE_TYPE> readTypes(Reader& reader) {
  const std::uint32_t count = reader.u32();
  std::vector<CK_ATTRIBUTE_TYPE> types;
  for (std::uint32_t i = 0; i < count; ++i) types.push_back(reader.u64());
  return types;
}

CK_RV writeAttributes(JobContext& context, CK_OBJECT_HANDLE object, const std::vector<CK_ATTRIBUTE_TYPE>& types,
                      Writer& writer) {
  writer.u32(static_cast<std::uint32_t>(types.size()));
  if (types.empty()) return CKR_OK;
  WipedBytes room(types.size() * kFirstRoom);
  std::vector<CK_ATTRIBUTE> attributes;
  for (std::size_t i = 0; i < types.size(); ++i) {
    attributes.push_back({withoutNested(types[i]), room.data() + i * kFirstRoom, kFirstRoom});
  }
  const CK_RV common = context.functions->C_GetAttributeValue(context.handle(), object, attributes.data(), attributes.size());
  const bool eachAlone = isForOneAttribute(common) && types.size() > 1;
  if (common != CKR_OK && !isPartial(common) && !eachAlone) return common;
  WipedBytes alone;
  bool isAnyThere = false;
  for (CK_ATTRIBUTE& attribute : attributes) {
    CK_RV rv = CKR_OK;
    // After a partial answer, a length that still equals the room may belong to an attribute that the token skipped.
    const bool untouched = common != CKR_OK && attribute.ulValueLen == kFirstRoom;
    if (eachAlone || untouched || attribute.ulValueLen == CK_UNAVAILABLE_INFORMATION || attribute.ulValueLen > kFirstRoom) {
      rv = readAlone(context, object, attribute, alone);
      if (rv != CKR_OK && !isPartial(rv) && !(eachAlone && isForOneAttribute(rv))) return rv;
    }
    isAnyThere = isAnyThere || rv == CKR_OK;
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
  return eachAlone && !isAnyThere ? common : CKR_OK;
}

// Finds at most `most` objects and reads the attributes of each. Leaves out an object that vanished in between.
CK_RV call_X_Find(JobContext& context, Reader& reader, Writer& writer) {
  Template wanted = Template::read(reader);
  const std::uint32_t most = reader.u32();
  const std::vector<CK_ATTRIBUTE_TYPE> types = readTypes(reader);
  std::vector<CK_OBJECT_HANDLE> found;
  CK_RV rv = findAll(context, wanted.data(), wanted.size(), most, found);
  if (rv != CKR_OK) return rv;
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
    // Reports a partial object without attributes, so that the find still returns the other objects.
    if (isHollow(rv)) {
      writer.cut(entry);
      writer.u64(object);
      writeNoAttributes(types.size(), writer);
      rv = CKR_OK;
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

CK_RV call_C_GetObjectSize(JobContext& context, Reader& reader, Writer& writer) {
  CK_ULONG size = 0;
  const CK_RV rv = context.functions->C_GetObjectSize(context.handle(), context.readObject(reader), &size);
  writer.u64(size);
  return rv;
}

CK_RV createObject(JobContext& context, Reader& reader, const Template* changes, CK_OBJECT_HANDLE& object) {
  Template attributes = Template::read(reader);
  if (changes != nullptr) attributes.set(*changes);
  return context.functions->C_CreateObject(context.creationSession(), attributes.data(), attributes.size(), &object);
}

CK_RV call_C_CreateObject(JobContext& context, Reader& reader, Writer& writer) {
  CK_OBJECT_HANDLE object = CK_INVALID_HANDLE;
  CK_RV rv = createObject(context, reader, nullptr, object);
  rv = context.noteCreated(rv, object);
  writer.u64(object);
  return rv;
}

CK_RV call_C_CopyObject(JobContext& context, Reader& reader, Writer& writer) {
  const auto origin = context.originAt(reader);
  const CK_OBJECT_HANDLE source = context.readObject(reader);
  Template attributes = Template::read(reader);
  CK_OBJECT_HANDLE object = CK_INVALID_HANDLE;
  CK_RV rv =
      context.functions->C_CopyObject(context.creationSession(), source, attributes.data(), attributes.size(), &object);
  if (rv == CKR_FUNCTION_NOT_SUPPORTED && origin) rv = makeAgain(context, *origin, source, attributes, object);
  rv = context.noteCreated(rv, object);
  writer.u64(object);
  return rv;
}

CK_RV call_C_SetAttributeValue(JobContext& context, Reader& reader, Writer& writer) {
  const CK_OBJECT_HANDLE object = context.readObject(reader);
  Template attributes = Template::read(reader);
  return context.functions->C_SetAttributeValue(context.handle(), object, attributes.data(), attributes.size());
}

CK_RV call_C_DestroyObject(JobContext& context, Reader& reader, Writer& writer) {
  const CK_OBJECT_HANDLE object = context.readObject(reader);
  const CK_RV rv = context.functions->C_DestroyObject(context.handle(), object);
  if (rv == CKR_OK) context.forgetCreated(object);
  return rv;
}

// Finds the objects without a class or without CKA_TOKEN true: partial objects of interrupted writes, and session
// objects.
CK_RV call_X_FindHollow(JobContext& context, Reader& reader, Writer& writer) {
  std::vector<CK_OBJECT_HANDLE> found;
  CK_RV rv = findAll(context, nullptr, 0, SIZE_MAX, found);
  if (rv != CKR_OK) return rv;
  const std::size_t countAt = writer.size();
  std::uint32_t count = 0;
  writer.u32(0);
  for (const CK_OBJECT_HANDLE object : found) {
    CK_ULONG objectClass = 0;
    CK_BBOOL isToken = CK_FALSE;
    CK_ATTRIBUTE attributes[] = {{CKA_CLASS, &objectClass, sizeof objectClass}, {CKA_TOKEN, &isToken, sizeof isToken}};
    rv = context.functions->C_GetAttributeValue(context.handle(), object, attributes, 2);
    const bool isWhole = rv == CKR_OK && attributes[0].ulValueLen == sizeof objectClass &&
                         attributes[1].ulValueLen == sizeof isToken && isToken != CK_FALSE;
    if (isWhole || rv == CKR_OBJECT_HANDLE_INVALID) continue;
    // Fails on codes that concern the token or the session, not this object.
    if (rv != CKR_OK && !isPartial(rv) && !isHollow(rv)) return rv;
    writer.u64(object);
    ++count;
  }
  writer.patch32(countAt, count);
  return CKR_OK;
}

}  // namespace pkcs11ha
