// Sessions that are held for an operation that goes on over several jobs.
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

// One such session, opened for its operation and closed with it. Unlike a lane's it is never replaced: what was
// begun on it is gone with it.
class HeldSession {
 public:
  explicit HeldSession(Module& module) : module_(module) {}
  ~HeldSession();
  HeldSession(const HeldSession&) = delete;
  HeldSession& operator=(const HeldSession&) = delete;

  CK_RV open();
  CK_SESSION_HANDLE handle() const { return handle_; }
  // Whether the sessions of this host are still those of the time when it was opened.
  bool isCurrent() const { return generation_ == module_.generation(); }

  // For one job at a time.
  std::mutex inUse;
  // Parameters of the operations begun on it, which have to live until these end.
  std::vector<Mechanism> mechanisms{};

 private:
  Module& module_;
  CK_SESSION_HANDLE handle_ = CK_INVALID_HANDLE;
  std::uint32_t generation_ = 0;
};

// The held sessions of a host by the numbers that the application gives them.
class HeldSessions {
 public:
  explicit HeldSessions(Module& module) : module_(module) {}

  // A new one under that number; CKR_SESSION_CLOSED where it was released before the job got here.
  CK_RV open(std::uint64_t number, std::shared_ptr<HeldSession>& session);
  // The one of that number, or nothing.
  std::shared_ptr<HeldSession> find(std::uint64_t number);
  // Closed as soon as no job uses it.
  void release(std::uint64_t number);

 private:
  Module& module_;
  std::mutex mutex_;
  std::map<std::uint64_t, std::shared_ptr<HeldSession>> sessions_;
  // Numbers that were released before anything was opened under them.
  std::set<std::uint64_t> released_;
};

}  // namespace pkcs11ha
