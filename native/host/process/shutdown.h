// How a host ends with its application: at once, whatever the lanes hang in, unless a token object is just
// being written. A SoftHSM killed inside of that, also inside of a login, leaves files behind that nobody can read.
#pragma once

#include <sys/types.h>

#include "common/channel_page.h"

namespace pkcs11ha {

// To be called before there is any other thread. Exits if the parent is gone already.
void followParent(pid_t parent);

// Waits for the end of the parent, or for its word, and leaves.
[[noreturn]] void awaitShutdown(const ChannelPage& page);

// A thread that is no lane: leaves when the application's end of the channel is gone.
void startWatchdog(int socket, const ChannelPage& page);

// Ends the process as soon as nothing is being written, and within a few seconds whatever is.
[[noreturn]] void leave(const ChannelPage& page);

// No job begins any more. Asked by a lane that shows its job on the page already.
bool isLeaving();

}  // namespace pkcs11ha
