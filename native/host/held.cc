#include "host/held.h"

namespace pkcs11ha {
namespace {

// Maximum number of released numbers that are remembered. A release seldom overtakes its job, and the job soon follows.
constexpr std::size_t kMaxReleased = 4096;

}  // namespace

HeldSession::~HeldSession() {
  CK_FUNCTION_LIST* functions = module_.functions();
  if (handle_ != CK_INVALID_HANDLE && functions != nullptr && isCurrent()) functions->C_CloseSession(handle_);
}

CK_RV HeldSession::open() {
  generation_ = module_.generation();
  const CK_RV rv = module_.openSession(handle_);
  if (rv != CKR_OK) handle_ = CK_INVALID_HANDLE;
  return rv;
}

CK_RV HeldSessions::open(std::uint64_t number, std::shared_ptr<HeldSession>& session) {
  const auto opened = std::make_shared<HeldSession>(module_);
  const CK_RV rv = opened->open();
  if (rv != CKR_OK) return rv;
  const std::lock_guard lock(mutex_);
  if (released_.erase(number) > 0) return CKR_SESSION_CLOSED;
  session = opened;
  sessions_.insert_or_assign(number, opened);
  return CKR_OK;
}

std::shared_ptr<HeldSession> HeldSessions::find(std::uint64_t number) {
  const std::lock_guard lock(mutex_);
  const auto found = sessions_.find(number);
  return found == sessions_.end() ? nullptr : found->second;
}

void HeldSessions::release(std::uint64_t number) {
  std::shared_ptr<HeldSession> ending;
  const std::lock_guard lock(mutex_);
  const auto found = sessions_.find(number);
  if (found == sessions_.end()) {
    released_.insert(number);
    if (released_.size() > kMaxReleased) released_.erase(released_.begin());
    return;
  }
  ending = std::move(found->second);
  sessions_.erase(found);
}

}  // namespace pkcs11ha
