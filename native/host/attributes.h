// Templates and attribute values on the wire.
#pragma once

#include <vector>

#include "host/job.h"

namespace pkcs11ha {

// A template whose values point into the packet.
std::vector<CK_ATTRIBUTE> readTemplate(Reader& reader);

std::vector<CK_ATTRIBUTE_TYPE> readTypes(Reader& reader);

// Reads attributes of one object and writes, for each type in order, whether it is there and its value.
// CKR_ATTRIBUTE_SENSITIVE and CKR_ATTRIBUTE_TYPE_INVALID are written, not returned.
CK_RV writeAttributes(JobContext& context, CK_OBJECT_HANDLE object, const std::vector<CK_ATTRIBUTE_TYPE>& types,
                      Writer& writer);

}  // namespace pkcs11ha
