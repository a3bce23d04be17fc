// Calls that make an object from what a job holds, and so can make it again.
#pragma once

#include "host/job.h"
#include "host/template.h"

namespace pkcs11ha {

// Read the arguments of a call, set the changes in its template unless they are null, and make the call.
CK_RV createObject(JobContext& context, Reader& reader, const Template* changes, CK_OBJECT_HANDLE& object);
CK_RV deriveKey(JobContext& context, Reader& reader, const Template* changes, CK_OBJECT_HANDLE& object);
CK_RV unwrapKey(JobContext& context, Reader& reader, const Template* changes, CK_OBJECT_HANDLE& object);

}  // namespace pkcs11ha
