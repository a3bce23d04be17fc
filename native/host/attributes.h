// Templates and attribute values on the wire.
#pragma once

#include <vector>

#include "host/job.h"

namespace pkcs11ha {

// Template with its values. The values are aligned for libraries that cast them to CK_ULONG*.
class Template {
 public:
  static Template read(Reader& reader);

  CK_ATTRIBUTE* data() { return attributes_.empty() ? nullptr : attributes_.data(); }
  CK_ULONG size() const { return attributes_.size(); }

 private:
  std::vector<CK_ATTRIBUTE> attributes_;
  std::vector<CK_ULONG> storage_;
};

std::vector<CK_ATTRIBUTE_TYPE> readTypes(Reader& reader);

// Reads attributes of one object and writes, for each type in order, its presence and its value.
// CKR_ATTRIBUTE_SENSITIVE and CKR_ATTRIBUTE_TYPE_INVALID are written as the presence, not returned.
CK_RV writeAttributes(JobContext& context, CK_OBJECT_HANDLE object, const std::vector<CK_ATTRIBUTE_TYPE>& types,
                      Writer& writer);

}  // namespace pkcs11ha
