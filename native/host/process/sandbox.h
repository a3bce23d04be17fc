// Confinement of the host by Landlock (Linux 5.13 or later): files, TCP ports, signals and abstract sockets.
#pragma once

#include <span>

namespace pkcs11ha {

// Exit codes of a host that could not be confined; src/runtime/hosts/sandbox.ts has their meaning.
constexpr int kNoSandbox = 113;
constexpr int kNoSandboxPath = 114;

// Confines this thread and all that it starts, by the program's arguments:
//
//   --sandbox          confines the host: it may read and run what libraries need of the system, and nothing else
//   --read=PATH        it may also read and run this file, or what is in this folder
//   --write=PATH       it may also read and write there
//   --lock=PATH        it may also read and write files that are in this folder, and make or remove none
//   --connect=PORT,…   it may connect to these TCP ports alone, and listen on none
//
// Does nothing without --sandbox. Ends the process with one of the codes above if the kernel cannot do it.
void confine(std::span<char*> arguments);

}  // namespace pkcs11ha
