// Output of a size that is not known in advance.
#pragma once

#include "common/packet.h"
#include "host/pkcs11.h"
#include "host/wire.h"

namespace pkcs11ha {

// Calls the token with room for `guess` bytes, and with more room, twice at most, if the token returns
// CKR_BUFFER_TOO_SMALL. That code leaves the operation active (PKCS#11 2.40, section 5.2).
template <typename F>
CK_RV writeOutput(Writer& writer, std::size_t guess, F&& call) {
  const std::size_t begin = writer.beginSized();
  CK_ULONG size = guess;
  CK_RV rv = call(writer.reserve(begin, guess).data(), &size);
  for (int round = 0; rv == CKR_BUFFER_TOO_SMALL && round < 2; ++round) {
    // If the token does not say how much it needs, doubles the room.
    if (size <= guess || size == CK_UNAVAILABLE_INFORMATION) size = guess * 2;
    if (size > kPacketLimit) return CKR_HOST_MEMORY;
    guess = size;
    rv = call(writer.reserve(begin, guess).data(), &size);
  }
  if (rv == CKR_OK && size > guess) return CKR_GENERAL_ERROR;
  writer.finishSized(begin, rv == CKR_OK ? size : 0);
  return rv;
}

}  // namespace pkcs11ha
