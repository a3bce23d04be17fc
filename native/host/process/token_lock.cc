#include "host/process/token_lock.h"

#include <chrono>
#include <fcntl.h>
#include <thread>
#include <utility>

namespace pkcs11ha {
namespace {

using Clock = std::chrono::steady_clock;
// Time that a job waits for the lock: many times as long as a write takes.
constexpr auto kPatience = std::chrono::milliseconds(250);
// Time that a job waits if the one before it waited in vain.
constexpr auto kShortPatience = std::chrono::milliseconds(5);
// Pause between tries to take the lock.
constexpr auto kPause = std::chrono::microseconds(200);

bool setLock(int fd, short type) {
  struct flock request {};
  request.l_type = type;
  request.l_whence = SEEK_SET;
  request.l_len = 1;
  return ::fcntl(fd, F_OFD_SETLK, &request) == 0;
}

}  // namespace

TokenLock::Held::Held(TokenLock& lock, bool takes) : lock_(lock) {
  if (!takes) return;
  inUse_ = std::unique_lock(lock_.mutex_);
  isLocked_ = lock_.file_ && lock_.waitForLock();
}

TokenLock::Held::~Held() {
  if (isLocked_) setLock(lock_.file_.get(), F_UNLCK);
}

CK_RV TokenLock::use(const std::string& path, Template lasting) {
  Descriptor file(::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW));
  if (!file) return CKR_FUNCTION_FAILED;
  const std::lock_guard lock(mutex_);
  file_ = std::move(file);
  lasting_ = std::move(lasting);
  object_ = CK_INVALID_HANDLE;
  return CKR_OK;
}

bool TokenLock::waitForLock() {
  const auto until = Clock::now() + (isStuck_ ? kShortPatience : kPatience);
  bool isLocked = setLock(file_.get(), F_WRLCK);
  while (!isLocked && Clock::now() < until) {
    std::this_thread::sleep_for(kPause);
    isLocked = setLock(file_.get(), F_WRLCK);
  }
  isStuck_ = !isLocked;
  return isLocked;
}

void TokenLock::look(CK_FUNCTION_LIST& functions, CK_SESSION_HANDLE session) {
  if (!file_) return;
  // A read of a token object is the cheapest look: its cost does not grow with the number of objects.
  CK_BBOOL isOnToken = CK_FALSE;
  CK_ATTRIBUTE attribute{CKA_TOKEN, &isOnToken, sizeof isOnToken};
  const bool isRead = object_ != CK_INVALID_HANDLE &&
                      functions.C_GetAttributeValue(session, object_, &attribute, 1) == CKR_OK && isOnToken == CK_TRUE;
  if (isRead) return;
  object_ = CK_INVALID_HANDLE;
  if (functions.C_FindObjectsInit(session, lasting_.data(), lasting_.size()) != CKR_OK) return;
  CK_ULONG count = 0;
  CK_OBJECT_HANDLE found = CK_INVALID_HANDLE;
  if (functions.C_FindObjects(session, &found, 1, &count) == CKR_OK && count == 1) object_ = found;
  functions.C_FindObjectsFinal(session);
}

}  // namespace pkcs11ha
