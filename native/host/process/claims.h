// Claims that the host holds together with its application: locks on a byte of files. A claim so lasts as long as the
// host's work, even after the application has ended.
#pragma once

#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

#include "common/descriptor.h"
#include "host/pkcs11.h"

namespace pkcs11ha {

class Claims {
 public:
  Claims();

  // Opens the file and takes a shared lock on its byte 1, without waiting; does nothing if the claim is held already.
  // Returns CKR_FUNCTION_FAILED if the file cannot be opened or locked, CKR_HOST_MEMORY if the table is full.
  CK_RV hold(const std::string& path);
  // Has the claim given up by the next `dropEnded`, if it is held: not before the writes under way have ended.
  void drop(const std::string& path);
  // Gives up the claims that were dropped, and those that expired before `now` (ns of CLOCK_BOOTTIME). The first eight
  // bytes of a claim's file are the time of its expiry, little-endian; a claim whose file has 0 there or is shorter
  // never expires.
  void dropEnded(std::uint64_t now);
  // Returns true if a claim may end by itself: it has an expiry, or was dropped.
  bool mayEnd() const;

  // Descriptor that becomes readable when a claim is added or dropped, for poll.
  int additions() const { return additions_.get(); }
  // Makes that descriptor unreadable again.
  void takeAdditions();

 private:
  struct Claim {
    std::string path;
    Descriptor file;
    bool isUnwanted;
    bool expires;
  };

  std::vector<Claim>::iterator find(const std::string& path);
  // Keeps a claim that is held already; returns false if it is not held.
  bool keep(const std::string& path);

  mutable std::mutex mutex_;
  std::vector<Claim> claims_;
  Descriptor additions_;
};

}  // namespace pkcs11ha
