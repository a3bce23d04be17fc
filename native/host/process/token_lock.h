// Lock of a token among the processes of a machine, for libraries that miss what another process has written.
#pragma once

#include <mutex>
#include <string>

#include "common/descriptor.h"
#include "host/pkcs11.h"
#include "host/template.h"

namespace pkcs11ha {

// Lets one process at a time write on a token, after a look at what the others have written. SoftHSM counts a token's
// changes: a process that writes takes the new count for known, together with changes that it has not looked at.
class TokenLock {
 public:
  // Lock held for the length of a job that writes. Waits for another process for a limited time, then goes on without
  // the lock: the other process may be stopped.
  class Held {
   public:
    Held(TokenLock& lock, bool takes);
    ~Held();
    Held(const Held&) = delete;
    Held& operator=(const Held&) = delete;

   private:
    TokenLock& lock_;
    std::unique_lock<std::mutex> inUse_;
    bool isLocked_ = false;
  };

  // Sets the lock file, and the template of an object that stays on the token. Returns CKR_FUNCTION_FAILED if the file
  // cannot be opened.
  CK_RV use(const std::string& path, Template lasting);
  // Has the library look at the token. Runs under the lock, before the job's own calls.
  void look(CK_FUNCTION_LIST& functions, CK_SESSION_HANDLE session);

 private:
  bool waitForLock();

  std::mutex mutex_;
  Descriptor file_;
  Template lasting_;
  CK_OBJECT_HANDLE object_ = CK_INVALID_HANDLE;
  // True if the last wait was in vain: the next one is short.
  bool isStuck_ = false;
};

}  // namespace pkcs11ha
