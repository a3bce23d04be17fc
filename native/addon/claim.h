#pragma once

#include <napi.h>

namespace pkcs11ha {

// claim(name): a descriptor that holds the name among all processes of the network namespace, or -1 where another
// one holds it. The kernel gives it back when its holder ends, however that ends.
Napi::Value claim(const Napi::CallbackInfo& info);

// releaseClaim(descriptor)
Napi::Value releaseClaim(const Napi::CallbackInfo& info);

}  // namespace pkcs11ha
