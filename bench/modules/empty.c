/*
 * PKCS#11 module that does nothing: one token with one secret key, whose signatures are zeros. A call through this
 * module takes the time of everything except the token. EMPTY_SERIAL is the token's serial number.
 */
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define NULL_PTR NULL
#include "../../native/host/pkcs11.h"

#define OUTPUT_SIZE 32
#define KEY 1
#define MOST_SESSIONS 1024

static atomic_ulong next_session = 1;
static atomic_int finds[MOST_SESSIONS];
static atomic_int logged_in;

/* Fills a text field, padded with blanks as PKCS#11 requires. */
static void set_text(unsigned char *field, size_t size, const char *text) {
  const size_t length = strlen(text);
  memset(field, ' ', size);
  memcpy(field, text, length < size ? length : size);
}

static CK_RV initialize(CK_VOID_PTR arguments) {
  (void)arguments;
  return CKR_OK;
}
static CK_RV finalize(CK_VOID_PTR reserved) {
  (void)reserved;
  atomic_store(&logged_in, 0);
  return CKR_OK;
}
static CK_RV get_info(CK_INFO_PTR info) {
  memset(info, 0, sizeof *info);
  info->cryptokiVersion.major = 2;
  info->cryptokiVersion.minor = 40;
  set_text(info->manufacturerID, sizeof info->manufacturerID, "empty");
  set_text(info->libraryDescription, sizeof info->libraryDescription, "empty");
  return CKR_OK;
}
static CK_RV get_slot_list(CK_BBOOL present, CK_SLOT_ID_PTR list, CK_ULONG_PTR count) {
  (void)present;
  if (list != NULL) list[0] = 0;
  *count = 1;
  return CKR_OK;
}
static CK_RV get_slot_info(CK_SLOT_ID slot, CK_SLOT_INFO_PTR info) {
  (void)slot;
  memset(info, 0, sizeof *info);
  set_text(info->slotDescription, sizeof info->slotDescription, "empty");
  set_text(info->manufacturerID, sizeof info->manufacturerID, "empty");
  info->flags = CKF_TOKEN_PRESENT;
  return CKR_OK;
}
static CK_RV get_token_info(CK_SLOT_ID slot, CK_TOKEN_INFO_PTR info) {
  (void)slot;
  const char *serial = getenv("EMPTY_SERIAL");
  memset(info, 0, sizeof *info);
  set_text(info->label, sizeof info->label, "empty");
  set_text(info->manufacturerID, sizeof info->manufacturerID, "empty");
  set_text(info->model, sizeof info->model, "empty");
  set_text(info->serialNumber, sizeof info->serialNumber, serial == NULL ? "empty" : serial);
  set_text(info->utcTime, sizeof info->utcTime, "");
  info->flags = CKF_LOGIN_REQUIRED | CKF_USER_PIN_INITIALIZED | CKF_TOKEN_INITIALIZED;
  info->ulMaxPinLen = 255;
  info->ulTotalPublicMemory = info->ulFreePublicMemory = CK_UNAVAILABLE_INFORMATION;
  info->ulTotalPrivateMemory = info->ulFreePrivateMemory = CK_UNAVAILABLE_INFORMATION;
  return CKR_OK;
}
static CK_RV get_mechanism_list(CK_SLOT_ID slot, CK_MECHANISM_TYPE_PTR list, CK_ULONG_PTR count) {
  (void)slot;
  if (list != NULL) list[0] = CKM_SHA256_HMAC;
  *count = 1;
  return CKR_OK;
}
static CK_RV get_mechanism_info(CK_SLOT_ID slot, CK_MECHANISM_TYPE type, CK_MECHANISM_INFO_PTR info) {
  (void)slot;
  (void)type;
  info->ulMinKeySize = info->ulMaxKeySize = 32;
  info->flags = CKF_SIGN | CKF_VERIFY;
  return CKR_OK;
}
static CK_RV open_session(CK_SLOT_ID slot, CK_FLAGS flags, CK_VOID_PTR application, CK_NOTIFY notify,
                          CK_SESSION_HANDLE_PTR session) {
  (void)slot;
  (void)flags;
  (void)application;
  (void)notify;
  *session = atomic_fetch_add(&next_session, 1);
  return CKR_OK;
}
static CK_RV close_session(CK_SESSION_HANDLE session) {
  (void)session;
  return CKR_OK;
}
static CK_RV close_all_sessions(CK_SLOT_ID slot) {
  (void)slot;
  return CKR_OK;
}
static CK_RV get_session_info(CK_SESSION_HANDLE session, CK_SESSION_INFO_PTR info) {
  (void)session;
  memset(info, 0, sizeof *info);
  info->flags = CKF_SERIAL_SESSION | CKF_RW_SESSION;
  info->state = atomic_load(&logged_in) ? CKS_RW_USER_FUNCTIONS : CKS_RW_PUBLIC_SESSION;
  return CKR_OK;
}
static CK_RV login(CK_SESSION_HANDLE session, CK_USER_TYPE user, CK_UTF8CHAR_PTR pin, CK_ULONG size) {
  (void)session;
  (void)user;
  (void)pin;
  (void)size;
  return atomic_exchange(&logged_in, 1) ? CKR_USER_ALREADY_LOGGED_IN : CKR_OK;
}
static CK_RV logout(CK_SESSION_HANDLE session) {
  (void)session;
  atomic_store(&logged_in, 0);
  return CKR_OK;
}

/* Returns an attribute of the key, or NULL if the key does not have it. */
static const void *attribute_of(CK_ATTRIBUTE_TYPE type, CK_ULONG *size) {
  static const CK_OBJECT_CLASS object_class = CKO_SECRET_KEY;
  static const CK_KEY_TYPE key_type = CKK_GENERIC_SECRET;
  static const CK_ULONG value_len = 32;
  static const CK_BBOOL yes = CK_TRUE;
  static const CK_BBOOL no = CK_FALSE;
  switch (type) {
    case CKA_CLASS:
      *size = sizeof object_class;
      return &object_class;
    case CKA_KEY_TYPE:
      *size = sizeof key_type;
      return &key_type;
    case CKA_VALUE_LEN:
      *size = sizeof value_len;
      return &value_len;
    case CKA_LABEL:
      *size = 3;
      return "key";
    case CKA_ID:
      *size = 1;
      return "1";
    case CKA_TOKEN:
    case CKA_PRIVATE:
    case CKA_SIGN:
    case CKA_VERIFY:
    case CKA_SENSITIVE:
      *size = 1;
      return &yes;
    case CKA_EXTRACTABLE:
    case CKA_ENCRYPT:
    case CKA_DECRYPT:
    case CKA_WRAP:
    case CKA_UNWRAP:
    case CKA_DERIVE:
    case CKA_ALWAYS_AUTHENTICATE:
      *size = 1;
      return &no;
    default:
      return NULL;
  }
}
static CK_RV get_attribute_value(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object, CK_ATTRIBUTE_PTR template,
                                 CK_ULONG count) {
  (void)session;
  if (object != KEY) return CKR_OBJECT_HANDLE_INVALID;
  CK_RV rv = CKR_OK;
  for (CK_ULONG i = 0; i < count; ++i) {
    CK_ULONG size = 0;
    const void *value = attribute_of(template[i].type, &size);
    if (value == NULL) {
      template[i].ulValueLen = CK_UNAVAILABLE_INFORMATION;
      rv = CKR_ATTRIBUTE_TYPE_INVALID;
      continue;
    }
    if (template[i].pValue != NULL) {
      if (template[i].ulValueLen < size) {
        template[i].ulValueLen = CK_UNAVAILABLE_INFORMATION;
        rv = CKR_BUFFER_TOO_SMALL;
        continue;
      }
      memcpy(template[i].pValue, value, size);
    }
    template[i].ulValueLen = size;
  }
  return rv;
}
static CK_RV find_objects_init(CK_SESSION_HANDLE session, CK_ATTRIBUTE_PTR template, CK_ULONG count) {
  int matches = 1;
  for (CK_ULONG i = 0; i < count; ++i) {
    CK_ULONG size = 0;
    const void *value = attribute_of(template[i].type, &size);
    if (value == NULL || size != template[i].ulValueLen || memcmp(value, template[i].pValue, size) != 0) matches = 0;
  }
  atomic_store(&finds[session % MOST_SESSIONS], matches);
  return CKR_OK;
}
static CK_RV find_objects(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE_PTR objects, CK_ULONG most, CK_ULONG_PTR count) {
  *count = most > 0 && atomic_exchange(&finds[session % MOST_SESSIONS], 0) ? 1 : 0;
  if (*count > 0) objects[0] = KEY;
  return CKR_OK;
}
static CK_RV find_objects_final(CK_SESSION_HANDLE session) {
  (void)session;
  return CKR_OK;
}

static CK_RV put_zeros(CK_BYTE_PTR output, CK_ULONG_PTR size) {
  if (output != NULL) {
    if (*size < OUTPUT_SIZE) return CKR_BUFFER_TOO_SMALL;
    memset(output, 0, OUTPUT_SIZE);
  }
  *size = OUTPUT_SIZE;
  return CKR_OK;
}
static CK_RV sign_init(CK_SESSION_HANDLE session, CK_MECHANISM_PTR mechanism, CK_OBJECT_HANDLE key) {
  (void)session;
  (void)mechanism;
  return key == KEY ? CKR_OK : CKR_KEY_HANDLE_INVALID;
}
static CK_RV sign(CK_SESSION_HANDLE session, CK_BYTE_PTR data, CK_ULONG size, CK_BYTE_PTR output, CK_ULONG_PTR length) {
  (void)session;
  (void)data;
  (void)size;
  return put_zeros(output, length);
}
static CK_RV digest_init(CK_SESSION_HANDLE session, CK_MECHANISM_PTR mechanism) {
  (void)session;
  (void)mechanism;
  return CKR_OK;
}
static CK_RV digest_update(CK_SESSION_HANDLE session, CK_BYTE_PTR data, CK_ULONG size) {
  (void)session;
  (void)data;
  (void)size;
  return CKR_OK;
}
static CK_RV digest_key(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE key) {
  (void)session;
  return key == KEY ? CKR_OK : CKR_KEY_HANDLE_INVALID;
}
static CK_RV digest_final(CK_SESSION_HANDLE session, CK_BYTE_PTR output, CK_ULONG_PTR length) {
  (void)session;
  return put_zeros(output, length);
}
/* Answers every other function. */
static CK_RV unsupported(void) { return CKR_FUNCTION_NOT_SUPPORTED; }

CK_RV C_GetFunctionList(CK_FUNCTION_LIST_PTR_PTR list) {
  static CK_FUNCTION_LIST functions;
  functions.version.major = 2;
  functions.version.minor = 40;
  /* Fills all members but the first, which are pointers to functions. */
  CK_RV (**slots)(void) = (CK_RV (**)(void))&functions.C_Initialize;
  const size_t count = (sizeof functions - offsetof(CK_FUNCTION_LIST, C_Initialize)) / sizeof *slots;
  for (size_t i = 0; i < count; ++i) slots[i] = unsupported;
  functions.C_Initialize = initialize;
  functions.C_Finalize = finalize;
  functions.C_GetInfo = get_info;
  functions.C_GetFunctionList = C_GetFunctionList;
  functions.C_GetSlotList = get_slot_list;
  functions.C_GetSlotInfo = get_slot_info;
  functions.C_GetTokenInfo = get_token_info;
  functions.C_GetMechanismList = get_mechanism_list;
  functions.C_GetMechanismInfo = get_mechanism_info;
  functions.C_OpenSession = open_session;
  functions.C_CloseSession = close_session;
  functions.C_CloseAllSessions = close_all_sessions;
  functions.C_GetSessionInfo = get_session_info;
  functions.C_Login = login;
  functions.C_Logout = logout;
  functions.C_GetAttributeValue = get_attribute_value;
  functions.C_FindObjectsInit = find_objects_init;
  functions.C_FindObjects = find_objects;
  functions.C_FindObjectsFinal = find_objects_final;
  functions.C_SignInit = sign_init;
  functions.C_Sign = sign;
  functions.C_DigestInit = digest_init;
  functions.C_DigestUpdate = digest_update;
  functions.C_DigestKey = digest_key;
  functions.C_DigestFinal = digest_final;
  *list = &functions;
  return CKR_OK;
}
