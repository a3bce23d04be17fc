// Session of a lane.
#pragma once

#include "host/module.h"

namespace pkcs11ha {

// Session that opens when a job first needs it, and is replaced if a job did not leave it idle. Counts operations from
// their Init to the call that ends them (PKCS#11 2.40, section 5.2).
class Session {
 public:
  explicit Session(Module& module) : module_(module) {}

  // Opens the session unless it is open. Returns CKR_OK, or the code of the call that failed.
  CK_RV ensure();
  CK_SESSION_HANDLE handle() const { return handle_; }

  void began() { ++active_; }
  void ended() { active_ = active_ > 0 ? active_ - 1 : 0; }
  // Notes from a call's code that the session is unknown to the token or in an unknown state.
  void notice(CK_RV rv);
  // Closes the session if the job that ran on it did not leave it idle.
  void closeUnlessIdle();
  // Closes the session.
  void discard();

 private:
  void forget();

  Module& module_;
  CK_SESSION_HANDLE handle_ = CK_INVALID_HANDLE;
  int active_ = 0;
  bool lost_ = false;
  // True if the token does not know the session. Its handle may belong to another session by now, so it is not closed.
  bool unknown_ = false;
  std::uint32_t generation_ = 0;
};

}  // namespace pkcs11ha
