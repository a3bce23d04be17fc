#pragma once

#include <napi.h>

namespace pkcs11ha {

// Implements claim(name): returns a descriptor that holds the name among all processes of the network namespace, or -1
// if the name cannot be had, as when another process holds it. The kernel frees the name when its holder ends.
Napi::Value claim(const Napi::CallbackInfo& info);

// Implements releaseClaim(descriptor): closes the descriptor and so frees the name.
Napi::Value releaseClaim(const Napi::CallbackInfo& info);

}  // namespace pkcs11ha
