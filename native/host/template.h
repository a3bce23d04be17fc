// Template on the wire.
#pragma once

#include <vector>

#include "host/pkcs11.h"
#include "host/wire.h"

namespace pkcs11ha {

// Template with its values, which are aligned for libraries that cast them to CK_ULONG*. CKA_VALUE stays in the packet.
class Template {
 public:
  static Template read(Reader& reader);

  // Sets the attributes of another template, which has to outlive this one, and replaces those of the same types.
  void set(const Template& others);

  CK_ATTRIBUTE* data() { return attributes_.empty() ? nullptr : attributes_.data(); }
  CK_ULONG size() const { return attributes_.size(); }

 private:
  std::vector<CK_ATTRIBUTE> attributes_;
  std::vector<CK_ULONG> storage_;
};

}  // namespace pkcs11ha
