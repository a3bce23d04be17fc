// Sessions held for operations that last over several jobs.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <vector>

#include "host/mechanism.h"
#include "host/module.h"

namespace pkcs11ha {

// Session of one operation, opened and closed with it. A lost held session is not replaced, because its operation is
// lost too.
class HeldSession {
 public:
  explicit HeldSession(Module& module) : module_(module) {}
  ~HeldSession();
  HeldSession(const HeldSession&) = delete;
  HeldSession& operator=(const HeldSession&) = delete;

  CK_RV open();
  CK_SESSION_HANDLE handle() const { return handle_; }
  // Returns true if the host's sessions were not lost since this session was opened.
  bool isCurrent() const { return generation_ == module_.generation(); }

  // Locked while a job uses the session.
  std::mutex inUse;
  // Parameters of the operations begun on the session; a token may write to them until the operation ends.
  std::vector<Mechanism> mechanisms{};

 private:
  Module& module_;
  CK_SESSION_HANDLE handle_ = CK_INVALID_HANDLE;
  std::uint32_t generation_ = 0;
};

// Held sessions of a host, by the numbers that the application gives them.
class HeldSessions {
 public:
  explicit HeldSessions(Module& module) : module_(module) {}

  // Opens a session under a number. Returns CKR_SESSION_CLOSED if the number was released before.
  CK_RV open(std::uint64_t number, std::shared_ptr<HeldSession>& session);
  // Returns the session of a number, or nullptr.
  std::shared_ptr<HeldSession> find(std::uint64_t number);
  // Forgets the session of a number; the session closes as soon as no job uses it.
  void release(std::uint64_t number);

 private:
  Module& module_;
  std::mutex mutex_;
  std::map<std::uint64_t, std::shared_ptr<HeldSession>> sessions_;
  // Numbers that were released before a session was opened under them.
  std::set<std::uint64_t> released_;
};

}  // namespace pkcs11ha
