// A CK_MECHANISM made from its wire form.
#pragma once

#include <list>
#include <vector>

#include "host/pkcs11.h"
#include "host/wire.h"

namespace pkcs11ha {

// The parameter travels as a list of fields in the order of the C structure: a number, a flag, bytes that
// stand in the structure, bytes that it points to. What each structure looks like is known to
// src/spec/parameter.ts alone; here is only the machine's rule for aligning it. Bytes that the token may
// change (an IV it picks) are a kind of their own and come back in the reply.
class Mechanism {
 public:
  // `outlives`: it is to be good for longer than the packet that it is read from.
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
