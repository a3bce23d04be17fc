// Shutdown of a host with its application: at once, even if lanes hang, unless a token object is being written. A
// SoftHSM that is killed inside a write or a login leaves unreadable files behind.
#pragma once

#include <sys/types.h>

#include "common/channel_page.h"
#include "host/process/claims.h"

namespace pkcs11ha {

// Asks the kernel for the shutdown signal at the parent's end. Must be called before any other thread starts. Exits if
// the parent has ended already.
void followParent(pid_t parent);

// Waits for the shutdown signal, from the kernel or the parent, and shuts down.
[[noreturn]] void awaitShutdown(const ChannelPage& page);

// Starts a thread that shuts the host down when the application's end of the channel is closed. While the host holds
// claims, the thread gives up those that have expired, unless a lane writes.
void startWatchdog(int socket, const ChannelPage& page, Claims& claims);

// Ends the process as soon as no lane writes, or after a few seconds.
[[noreturn]] void leave(const ChannelPage& page);

// Returns true while the host shuts down; no job may begin then. Called by a lane whose job is on the page already.
bool isLeaving();

}  // namespace pkcs11ha
