// Output of a size that is not known before: written to room that grows once, when the token says how much
// it needs. A call that said CKR_BUFFER_TOO_SMALL has left its operation active (PKCS#11 2.40, section 5.2).
#pragma once

#include "common/packet.h"
#include "host/pkcs11.h"
#include "host/wire.h"

namespace pkcs11ha {

template <typename F>
CK_RV writeOutput(Writer& writer, std::size_t guess, F&& call) {
  const std::size_t begin = writer.beginSized();
  CK_ULONG size = guess;
  CK_RV rv = call(writer.reserve(begin, guess).data(), &size);
  for (int round = 0; rv == CKR_BUFFER_TOO_SMALL && round < 2; ++round) {
    // A token that does not say how much gets twice as much room.
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
