// What a host gives up before it loads somebody else's code, and how it ends with its application.
#pragma once

#include <sys/types.h>

namespace pkcs11ha {

// Dies with `parent`, leaves no core dump, keeps no descriptor above `lastDescriptor`, is not moved by the
// terminal's or the service manager's signals (it ends when its application ends), and never waits for
// somebody to read what the library prints. Exits if the parent is gone already.
void confine(pid_t parent, int lastDescriptor);

// A thread that is no lane: ends the process at once when the application's end of the channel is gone,
// whatever the lanes hang in.
void startWatchdog(int socket);

}  // namespace pkcs11ha
