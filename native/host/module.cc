#include "host/module.h"

#include <dlfcn.h>

namespace pkcs11ha {
namespace {

bool isUser(const CK_SESSION_INFO& info) {
  return info.state == CKS_RO_USER_FUNCTIONS || info.state == CKS_RW_USER_FUNCTIONS;
}

bool isLost(CK_RV rv) {
  switch (rv) {
    case CKR_SESSION_HANDLE_INVALID:
    case CKR_SESSION_CLOSED:
    case CKR_DEVICE_REMOVED:
    case CKR_TOKEN_NOT_PRESENT:
    case CKR_CRYPTOKI_NOT_INITIALIZED:
      return true;
    default:
      return false;
  }
}

}  // namespace

CK_RV Module::load(const std::string& path, const std::string& reserved, std::string& problem) {
  const std::lock_guard lock(loading_);
  if (functions() != nullptr) return CKR_CRYPTOKI_ALREADY_INITIALIZED;
  // Loads the library for good: libraries leave threads and exit handlers behind that outlive a dlclose.
  void* library = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    const char* reason = ::dlerror();
    problem = reason == nullptr ? "dlopen failed" : reason;
    return CKR_GENERAL_ERROR;
  }
  const auto getFunctionList = reinterpret_cast<CK_C_GetFunctionList>(::dlsym(library, "C_GetFunctionList"));
  CK_FUNCTION_LIST* functions = nullptr;
  if (getFunctionList == nullptr || getFunctionList(&functions) != CKR_OK || functions == nullptr) {
    problem = "the library has no C_GetFunctionList";
    return CKR_GENERAL_ERROR;
  }
  reserved_ = reserved;
  CK_C_INITIALIZE_ARGS arguments{};
  arguments.flags = CKF_OS_LOCKING_OK;
  if (!reserved_.empty()) arguments.pReserved = reserved_.data();
  const CK_RV rv = functions->C_Initialize(&arguments);
  if (rv == CKR_OK || rv == CKR_CRYPTOKI_ALREADY_INITIALIZED) functions_.store(functions, std::memory_order_release);
  return rv;
}

CK_RV Module::finalize() {
  CK_FUNCTION_LIST* functions = functions_.exchange(nullptr, std::memory_order_acq_rel);
  return functions == nullptr ? CKR_CRYPTOKI_NOT_INITIALIZED : functions->C_Finalize(nullptr);
}

CK_RV Module::attach(CK_SLOT_ID slot) {
  slot_.store(slot, std::memory_order_release);
  const std::lock_guard lock(anchorInUse_);
  CK_SESSION_INFO info{};
  if (anchor() != CK_INVALID_HANDLE) {
    if (functions()->C_GetSessionInfo(anchor(), &info) == CKR_OK) return CKR_OK;
    // Forgets the lost session without closing it: the token may have given its handle to another session.
    anchor_.store(CK_INVALID_HANDLE, std::memory_order_release);
    generation_.fetch_add(1, std::memory_order_acq_rel);
  }
  CK_SESSION_HANDLE session = CK_INVALID_HANDLE;
  const CK_RV rv = open(session);
  if (rv == CKR_OK) anchor_.store(session, std::memory_order_release);
  return rv;
}

CK_RV Module::login(CK_USER_TYPE user, CK_UTF8CHAR* pin, CK_ULONG length) {
  const CK_RV rv = functions()->C_Login(anchor(), user, pin, length);
  if (rv != CKR_OK && rv != CKR_USER_ALREADY_LOGGED_IN) return rv;
  CK_SESSION_INFO info{};
  const CK_RV shown = functions()->C_GetSessionInfo(anchor(), &info);
  // If the token does not show the login here, it shows it on no session, and the login is not expected to be shown.
  // If the session is lost, the login is expected.
  expectsUser_.store(isLost(shown) || (shown == CKR_OK && isUser(info)));
  return rv;
}

CK_RV Module::openSession(CK_SESSION_HANDLE& session) {
  CK_RV rv = open(session);
  if (rv != CKR_OK || !expectsUser_.load()) return rv;
  CK_SESSION_INFO info{};
  rv = functions()->C_GetSessionInfo(session, &info);
  if (rv == CKR_OK && isUser(info)) return rv;
  // Leaves a session open that the token does not know: its handle may belong to another session by now.
  if (!isLost(rv)) functions()->C_CloseSession(session);
  return rv == CKR_OK ? CKR_SESSION_HANDLE_INVALID : rv;
}

CK_RV Module::open(CK_SESSION_HANDLE& session) {
  CK_FUNCTION_LIST* functions = this->functions();
  if (functions == nullptr) return CKR_CRYPTOKI_NOT_INITIALIZED;
  const CK_SLOT_ID slot = slot_.load(std::memory_order_acquire);
  CK_RV rv = functions->C_OpenSession(slot, CKF_SERIAL_SESSION | CKF_RW_SESSION, nullptr, nullptr, &session);
  if (rv == CKR_TOKEN_WRITE_PROTECTED) {
    rv = functions->C_OpenSession(slot, CKF_SERIAL_SESSION, nullptr, nullptr, &session);
  }
  return rv;
}

}  // namespace pkcs11ha
