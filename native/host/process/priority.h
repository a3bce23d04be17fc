// Scheduling priority of the host's threads.
#pragma once

namespace pkcs11ha {

// Gives the host's threads the policy SCHED_BATCH, or SCHED_OTHER again. Under SCHED_BATCH a thread that wakes does not
// take the processor from a running thread, so that recovery delays no application. Ignores a system's refusal.
void giveWay(bool gives);

}  // namespace pkcs11ha
