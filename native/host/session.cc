#include "host/session.h"

namespace pkcs11ha {

CK_RV Session::ensure() {
  if (handle_ != CK_INVALID_HANDLE) return CKR_OK;
  const CK_RV rv = module_.openSession(handle_);
  if (rv != CKR_OK) handle_ = CK_INVALID_HANDLE;
  active_ = 0;
  lost_ = false;
  return rv;
}

void Session::notice(CK_RV rv) {
  switch (rv) {
    case CKR_SESSION_HANDLE_INVALID:
    case CKR_SESSION_CLOSED:
    case CKR_OPERATION_ACTIVE:
    case CKR_CRYPTOKI_NOT_INITIALIZED:
    case CKR_DEVICE_REMOVED:
    case CKR_TOKEN_NOT_PRESENT:
      lost_ = true;
      break;
    default:
      break;
  }
}

void Session::settle() {
  if (lost_ || active_ > 0) discard();
}

void Session::discard() {
  if (handle_ == CK_INVALID_HANDLE) return;
  if (CK_FUNCTION_LIST* functions = module_.functions()) functions->C_CloseSession(handle_);
  handle_ = CK_INVALID_HANDLE;
  active_ = 0;
  lost_ = false;
}

}  // namespace pkcs11ha
