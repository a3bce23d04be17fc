#include "host/session.h"

namespace pkcs11ha {

CK_RV Session::ensure() {
  const std::uint32_t generation = module_.generation();
  if (generation != generation_) forget();
  if (handle_ != CK_INVALID_HANDLE) return CKR_OK;
  generation_ = generation;
  const CK_RV rv = module_.openSession(handle_);
  if (rv != CKR_OK) handle_ = CK_INVALID_HANDLE;
  return rv;
}

void Session::notice(CK_RV rv) {
  // A failed call ends its operation (PKCS#11 2.40, section 5.2). If the token itself failed, the operation may still
  // be active.
  if (rv >= CKR_VENDOR_DEFINED) lost_ = true;
  switch (rv) {
    case CKR_SESSION_HANDLE_INVALID:
    case CKR_SESSION_CLOSED:
    case CKR_CRYPTOKI_NOT_INITIALIZED:
      unknown_ = true;
      break;
    case CKR_HOST_MEMORY:
    case CKR_GENERAL_ERROR:
    case CKR_FUNCTION_FAILED:
    case CKR_CANT_LOCK:
    case CKR_DEVICE_ERROR:
    case CKR_DEVICE_MEMORY:
    case CKR_FUNCTION_CANCELED:
    case CKR_OPERATION_ACTIVE:
    case CKR_DEVICE_REMOVED:
    case CKR_TOKEN_NOT_PRESENT:
      lost_ = true;
      break;
    default:
      break;
  }
}

void Session::closeUnlessIdle() {
  if (unknown_) {
    forget();
  } else if (lost_ || active_ > 0) {
    discard();
  }
}

void Session::discard() {
  if (handle_ == CK_INVALID_HANDLE) return;
  CK_FUNCTION_LIST* functions = module_.functions();
  if (functions != nullptr && generation_ == module_.generation()) functions->C_CloseSession(handle_);
  forget();
}

void Session::forget() {
  handle_ = CK_INVALID_HANDLE;
  active_ = 0;
  lost_ = false;
  unknown_ = false;
}

}  // namespace pkcs11ha
