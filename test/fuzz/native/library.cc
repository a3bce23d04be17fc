// PKCS#11 library that answers every call from the bytes that `feed` gives: codes, counts, lengths and handles.
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "host/pkcs11.h"

namespace {

const std::uint8_t* bytes = nullptr;
std::size_t left = 0;

std::uint8_t next() {
  if (left == 0) return 0;
  --left;
  return *bytes++;
}

CK_ULONG number() {
  switch (next() % 6) {
    case 0:
      return ~CK_ULONG{0};
    case 1:
      return 0;
    case 2:
      return CK_ULONG{next()} << 12;
    default:
      return next();
  }
}

CK_RV code() {
  constexpr CK_RV codes[] = {CKR_BUFFER_TOO_SMALL,       CKR_ATTRIBUTE_SENSITIVE, CKR_ATTRIBUTE_TYPE_INVALID,
                             CKR_OBJECT_HANDLE_INVALID,  CKR_GENERAL_ERROR,       CKR_SESSION_HANDLE_INVALID,
                             CKR_ATTRIBUTE_VALUE_INVALID};
  const std::uint8_t chosen = next();
  return chosen < 200 ? CKR_OK : codes[chosen % (sizeof codes / sizeof *codes)];
}

// Fills a buffer as far as the caller says that it goes, and says another length.
CK_RV fill(CK_BYTE_PTR buffer, CK_ULONG_PTR length) {
  if (length == nullptr) return CKR_ARGUMENTS_BAD;
  if (buffer != nullptr) std::memset(buffer, 0x55, *length);
  if (next() % 2 == 0) *length = number();
  return code();
}

CK_RV any() { return code(); }
CK_RV slots(CK_BBOOL, CK_SLOT_ID_PTR list, CK_ULONG_PTR count) {
  if (list != nullptr) std::memset(list, 1, *count * sizeof *list);
  *count = number();
  return code();
}
CK_RV mechanisms(CK_SLOT_ID, CK_MECHANISM_TYPE_PTR list, CK_ULONG_PTR count) { return slots(CK_TRUE, list, count); }
CK_RV open(CK_SLOT_ID, CK_FLAGS, CK_VOID_PTR, CK_NOTIFY, CK_SESSION_HANDLE_PTR session) {
  *session = number();
  return code();
}
CK_RV attributes(CK_SESSION_HANDLE, CK_OBJECT_HANDLE, CK_ATTRIBUTE_PTR list, CK_ULONG count) {
  for (CK_ULONG i = 0; i < count; ++i) {
    if (list[i].pValue != nullptr) std::memset(list[i].pValue, 0xaa, list[i].ulValueLen);
    list[i].ulValueLen = number();
  }
  return code();
}
CK_RV find(CK_SESSION_HANDLE, CK_OBJECT_HANDLE_PTR objects, CK_ULONG most, CK_ULONG_PTR count) {
  for (CK_ULONG i = 0; i < most; ++i) objects[i] = i;
  *count = next() % 3 == 0 ? number() : 0;
  return code();
}
CK_RV process(CK_SESSION_HANDLE, CK_BYTE_PTR, CK_ULONG, CK_BYTE_PTR out, CK_ULONG_PTR length) { return fill(out, length); }
CK_RV finish(CK_SESSION_HANDLE, CK_BYTE_PTR out, CK_ULONG_PTR length) { return fill(out, length); }
CK_RV wrap(CK_SESSION_HANDLE, CK_MECHANISM_PTR, CK_OBJECT_HANDLE, CK_OBJECT_HANDLE, CK_BYTE_PTR out, CK_ULONG_PTR length) {
  return fill(out, length);
}
CK_RV create(CK_SESSION_HANDLE, CK_ATTRIBUTE_PTR, CK_ULONG, CK_OBJECT_HANDLE_PTR object) {
  *object = number();
  return code();
}
CK_RV copy(CK_SESSION_HANDLE, CK_OBJECT_HANDLE, CK_ATTRIBUTE_PTR, CK_ULONG, CK_OBJECT_HANDLE_PTR object) {
  *object = number();
  return code();
}
CK_RV generate(CK_SESSION_HANDLE, CK_MECHANISM_PTR, CK_ATTRIBUTE_PTR, CK_ULONG, CK_OBJECT_HANDLE_PTR object) {
  *object = number();
  return code();
}
CK_RV pair(CK_SESSION_HANDLE, CK_MECHANISM_PTR, CK_ATTRIBUTE_PTR, CK_ULONG, CK_ATTRIBUTE_PTR, CK_ULONG,
           CK_OBJECT_HANDLE_PTR one, CK_OBJECT_HANDLE_PTR other) {
  *one = number();
  *other = number();
  return code();
}
CK_RV unwrap(CK_SESSION_HANDLE, CK_MECHANISM_PTR, CK_OBJECT_HANDLE, CK_BYTE_PTR, CK_ULONG, CK_ATTRIBUTE_PTR, CK_ULONG,
             CK_OBJECT_HANDLE_PTR object) {
  *object = number();
  return code();
}
CK_RV derive(CK_SESSION_HANDLE, CK_MECHANISM_PTR, CK_OBJECT_HANDLE, CK_ATTRIBUTE_PTR, CK_ULONG,
             CK_OBJECT_HANDLE_PTR object) {
  *object = number();
  return code();
}
CK_RV info(CK_SESSION_HANDLE, CK_SESSION_INFO_PTR state) {
  state->state = next() % 5;
  return code();
}
CK_RV random(CK_SESSION_HANDLE, CK_BYTE_PTR out, CK_ULONG length) {
  std::memset(out, 1, length);
  return code();
}

CK_FUNCTION_LIST makeList() {
  CK_FUNCTION_LIST list{};
  // Functions without an own answer take any arguments and give a code.
  auto* entries = reinterpret_cast<CK_RV (**)()>(reinterpret_cast<std::uint8_t*>(&list) + sizeof(void*));
  for (std::size_t i = 0; i < sizeof list / sizeof(void*) - 1; ++i) entries[i] = any;
  list.C_GetSlotList = slots;
  list.C_GetMechanismList = mechanisms;
  list.C_OpenSession = open;
  list.C_GetSessionInfo = info;
  list.C_GetAttributeValue = attributes;
  list.C_FindObjects = find;
  list.C_Encrypt = list.C_Decrypt = list.C_Digest = list.C_Sign = list.C_SignRecover = list.C_VerifyRecover = process;
  list.C_EncryptUpdate = list.C_DecryptUpdate = process;
  list.C_EncryptFinal = list.C_DecryptFinal = list.C_DigestFinal = list.C_SignFinal = finish;
  list.C_WrapKey = wrap;
  list.C_CreateObject = create;
  list.C_CopyObject = copy;
  list.C_GenerateKey = generate;
  list.C_GenerateKeyPair = pair;
  list.C_UnwrapKey = unwrap;
  list.C_DeriveKey = derive;
  list.C_GenerateRandom = random;
  return list;
}

CK_FUNCTION_LIST functions = makeList();

}  // namespace

extern "C" __attribute__((visibility("default"))) CK_RV C_GetFunctionList(CK_FUNCTION_LIST_PTR_PTR list) {
  *list = &functions;
  return CKR_OK;
}

extern "C" __attribute__((visibility("default"))) void feed(const std::uint8_t* data, std::size_t size) {
  bytes = data;
  left = size;
}
