// What a host gives up before it loads somebody else's code.
#pragma once

namespace pkcs11ha {

// Leaves no core dump, keeps no descriptor above `lastDescriptor`, is not moved by the terminal's or the service
// manager's signals (it ends when its application ends), and never waits for somebody to read what the library
// prints.
void harden(int lastDescriptor);

}  // namespace pkcs11ha
