// CK_MECHANISM, read from its wire form.
#pragma once

#include <list>
#include <vector>

#include "host/pkcs11.h"
#include "host/wire.h"

namespace pkcs11ha {

// Mechanism with its parameter. The parameter is sent as a list of fields in the order of the C structure: a number, a
// flag, bytes in the structure, bytes that the structure points to. Only src/spec/parameter.ts knows the structures;
// this class knows the machine's alignment. Bytes that the token may change (an IV that the token picks) are a kind of
// field of their own and come back in the reply.
class Mechanism {
 public:
  // Reads a mechanism. `outlives` copies the bytes pointed to, for a mechanism that is used after its packet is gone.
  static Mechanism read(Reader& reader, bool outlives = false);
  Mechanism(Mechanism&&) = default;
  Mechanism& operator=(Mechanism&&) = default;

  CK_MECHANISM* raw() { return &mechanism_; }
  void writeReturned(Writer& writer) const;

 private:
  Mechanism() = default;

  CK_MECHANISM mechanism_{};
  std::vector<std::uint8_t> parameter_;
  std::vector<Bytes> returned_;
  std::list<std::vector<std::uint8_t>> kept_;
};

}  // namespace pkcs11ha
