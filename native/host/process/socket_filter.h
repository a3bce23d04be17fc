// Filter of system calls (seccomp) that closes the ways around Landlock's rules for TCP ports.
#pragma once

namespace pkcs11ha {

// Refuses, for this thread and all that it starts: protocols of the internet beside TCP and UDP, families of sockets
// beside the internet, netlink and the file system, TCP Fast Open, listening, and io_uring, whose calls no filter sees.
// Needs no_new_privs. Returns false, with errno, if the kernel or the processor has no filter.
bool filterSockets();

}  // namespace pkcs11ha
