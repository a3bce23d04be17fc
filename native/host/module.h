// The vendor's library and what all lanes share of it.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <string>

#include "host/pkcs11.h"
#include "host/wire.h"

namespace pkcs11ha {

class Module {
 public:
  // dlopen, C_GetFunctionList and C_Initialize with CKF_OS_LOCKING_OK. `reserved` is handed to the library
  // as pReserved where a vendor asks for it. On a failure to load, `problem` says why.
  CK_RV load(const std::string& path, const std::string& reserved, std::string& problem);
  CK_RV finalize();
  CK_FUNCTION_LIST* functions() const { return functions_.load(std::memory_order_acquire); }

  // The slot that lanes open their sessions on, and the anchor session there, which keeps the login when a
  // lane's session is replaced, and the session objects that are to live on. Attaching again keeps it while the
  // token knows it; once it is gone, so are all others of this process, and a new generation of sessions begins.
  CK_RV attach(CK_SLOT_ID slot);
  std::uint32_t generation() const { return generation_.load(std::memory_order_acquire); }
  // Once the user was logged in, only a session that shows so counts as one: on others a find would be answered as
  // if there were no private objects. CKR_SESSION_HANDLE_INVALID where the login is gone with the sessions.
  CK_RV openSession(CK_SESSION_HANDLE& session);
  CK_RV login(CK_USER_TYPE user, CK_UTF8CHAR* pin, CK_ULONG length);
  CK_SESSION_HANDLE anchor() const { return anchor_.load(std::memory_order_acquire); }
  std::unique_lock<std::mutex> holdAnchor() { return std::unique_lock(anchorInUse_); }

 private:
  CK_RV open(CK_SESSION_HANDLE& session);

  std::mutex loading_;
  std::mutex anchorInUse_;
  std::string reserved_;
  std::atomic<CK_FUNCTION_LIST*> functions_{nullptr};
  std::atomic<CK_SLOT_ID> slot_{0};
  std::atomic<CK_SESSION_HANDLE> anchor_{CK_INVALID_HANDLE};
  std::atomic<std::uint32_t> generation_{0};
  std::atomic<bool> expectsUser_{false};
};

}  // namespace pkcs11ha
