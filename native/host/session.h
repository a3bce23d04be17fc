// A lane's own session.
#pragma once

#include "host/module.h"

namespace pkcs11ha {

// Opened when a job first needs it, and replaced when a job did not leave it idle. An operation is tracked
// from its Init to the call that ends it; what ends an operation is in PKCS#11 2.40, section 5.2.
class Session {
 public:
  explicit Session(Module& module) : module_(module) {}

  // CKR_OK and a session in `handle()`, or what C_OpenSession said.
  CK_RV ensure();
  CK_SESSION_HANDLE handle() const { return handle_; }

  void began() { ++active_; }
  void ended() { active_ = active_ > 0 ? active_ - 1 : 0; }
  // Looks at a call's result for a session that is lost or in an unknown state.
  void notice(CK_RV rv);
  // Closes the session if the job that ran on it did not leave it idle.
  void settle();
  void discard();

 private:
  void forget();

  Module& module_;
  CK_SESSION_HANDLE handle_ = CK_INVALID_HANDLE;
  int active_ = 0;
  bool lost_ = false;
  // The token says that it knows no such session: its number may be another's by now, so it is not closed.
  bool gone_ = false;
  std::uint32_t generation_ = 0;
};

}  // namespace pkcs11ha
