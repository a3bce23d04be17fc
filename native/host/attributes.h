// Attribute values on the wire.
#pragma once

#include <vector>

#include "host/job.h"
#include "host/template.h"

namespace pkcs11ha {

std::vector<CK_ATTRIBUTE_TYPE> readTypes(Reader& reader);

// Reads attributes of one object and writes, for each type in order, its presence and its value.
// CKR_ATTRIBUTE_SENSITIVE and CKR_ATTRIBUTE_TYPE_INVALID are written as the presence, not returned.
CK_RV writeAttributes(JobContext& context, CK_OBJECT_HANDLE object, const std::vector<CK_ATTRIBUTE_TYPE>& types,
                      Writer& writer);

}  // namespace pkcs11ha
