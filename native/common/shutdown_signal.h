// What tells a host that its application leaves: sent by the kernel when the thread ends that started the host.
#pragma once

#include <csignal>

namespace pkcs11ha {

constexpr int kShutdownSignal = SIGUSR2;

}  // namespace pkcs11ha
