// Vendor's library, and the slot, anchor session and login that all lanes share.
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
  // Runs dlopen, C_GetFunctionList and C_Initialize with CKF_OS_LOCKING_OK. If not empty, `reserved` becomes the
  // library's pReserved. `problem` receives the reason if the library cannot be loaded.
  CK_RV load(const std::string& path, const std::string& reserved, std::string& problem);
  CK_RV finalize();
  CK_FUNCTION_LIST* functions() const { return functions_.load(std::memory_order_acquire); }

  // Sets the slot for the lanes' sessions and opens the anchor session there. The anchor session keeps the login when a
  // lane's session is replaced, and holds session objects that outlive a job. Attaching again keeps the anchor session
  // while the token knows it. If the token lost it, all sessions of this process are lost, and a new generation begins.
  CK_RV attach(CK_SLOT_ID slot);
  // Number of the current generation of sessions.
  std::uint32_t generation() const { return generation_.load(std::memory_order_acquire); }
  // Opens a session. After a login, checks that the session shows the login: on another session a find would return no
  // private objects. Returns CKR_SESSION_HANDLE_INVALID if the login was lost with the sessions.
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
