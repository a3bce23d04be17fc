// Signal that tells a host to shut down. The kernel sends the signal when the thread that started the host ends.
#pragma once

#include <csignal>

namespace pkcs11ha {

constexpr int kShutdownSignal = SIGUSR2;

}  // namespace pkcs11ha
