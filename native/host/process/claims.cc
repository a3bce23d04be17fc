#include "host/process/claims.h"

#include <algorithm>
#include <array>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

namespace pkcs11ha {
namespace {

// Maximum number of claims that a host holds: many more than an application makes at a time.
constexpr std::size_t kMaxClaims = 256;
// Byte of a claim's file that hosts lock; the other bytes are the application's.
constexpr off_t kHostByte = 1;

// Opens and locks a claim's file. Returns an empty descriptor if either fails.
Descriptor lockedFile(const std::string& path) {
  Descriptor file(::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW));
  struct flock request {};
  request.l_type = F_RDLCK;
  request.l_whence = SEEK_SET;
  request.l_start = kHostByte;
  request.l_len = 1;
  if (file && ::fcntl(file.get(), F_OFD_SETLK, &request) != 0) file.reset();
  return file;
}

// Reads the time at which a claim expires (ns of CLOCK_BOOTTIME); 0 if the claim never expires.
std::uint64_t expiryOf(const Descriptor& file) {
  std::array<std::uint8_t, sizeof(std::uint64_t)> bytes{};
  if (::pread(file.get(), bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size())) return 0;
  std::uint64_t expiry = 0;
  for (std::size_t i = 0; i < bytes.size(); ++i) expiry |= static_cast<std::uint64_t>(bytes[i]) << (8 * i);
  return expiry;
}

// Returns true if the file has room for an expiry, which the application may write at any time.
bool hasExpiry(const Descriptor& file) {
  struct stat status {};
  return ::fstat(file.get(), &status) == 0 && status.st_size >= static_cast<off_t>(sizeof(std::uint64_t));
}

}  // namespace

Claims::Claims() : additions_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}

std::vector<Claims::Claim>::iterator Claims::find(const std::string& path) {
  return std::find_if(claims_.begin(), claims_.end(), [&path](const Claim& claim) { return claim.path == path; });
}

bool Claims::keep(const std::string& path) {
  const auto claim = find(path);
  if (claim == claims_.end()) return false;
  claim->isUnwanted = false;
  return true;
}

CK_RV Claims::hold(const std::string& path) {
  {
    const std::lock_guard lock(mutex_);
    if (keep(path)) return CKR_OK;
  }
  // Opens the file without the mutex: a slow file system must not delay the watchdog.
  Descriptor file = lockedFile(path);
  if (!file) return CKR_FUNCTION_FAILED;
  const std::lock_guard lock(mutex_);
  if (keep(path)) return CKR_OK;
  if (claims_.size() >= kMaxClaims) return CKR_HOST_MEMORY;
  // Refuses a claim if the watchdog cannot be woken for it: the claim would never expire.
  if (::eventfd_write(additions_.get(), 1) != 0) return CKR_FUNCTION_FAILED;
  const bool expires = hasExpiry(file);
  claims_.push_back({path, std::move(file), false, expires});
  return CKR_OK;
}

void Claims::drop(const std::string& path) {
  const std::lock_guard lock(mutex_);
  const auto claim = find(path);
  if (claim == claims_.end()) return;
  claim->isUnwanted = true;
  ::eventfd_write(additions_.get(), 1);
}

void Claims::dropEnded(std::uint64_t now) {
  const std::lock_guard lock(mutex_);
  std::erase_if(claims_, [now](const Claim& claim) {
    const std::uint64_t expiry = expiryOf(claim.file);
    return claim.isUnwanted || (expiry != 0 && expiry < now);
  });
}

bool Claims::mayEnd() const {
  const std::lock_guard lock(mutex_);
  return std::any_of(claims_.begin(), claims_.end(),
                     [](const Claim& claim) { return claim.expires || claim.isUnwanted; });
}

void Claims::takeAdditions() {
  eventfd_t count = 0;
  ::eventfd_read(additions_.get(), &count);
}

}  // namespace pkcs11ha
