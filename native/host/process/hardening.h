// Hardening of a host process before it loads a vendor's library.
#pragma once

namespace pkcs11ha {

// Turns off core dumps, gives up gaining privileges by programs that it starts, closes the descriptors above `lastDescriptor`, and ignores the signals of terminal and service
// manager, because a host ends when its application ends. Makes standard output and standard error non-blocking, so
// that a library's output never blocks the host.
void harden(int lastDescriptor);

}  // namespace pkcs11ha
