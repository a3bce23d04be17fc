// How the host's threads stand to others on the machine.
#pragma once

namespace pkcs11ha {

// While they give way, they do not take the processor from who is running when they wake: whoever does long work that
// nobody waits for keeps nobody waiting. Nothing happens where the system does not let it.
void giveWay(bool gives);

}  // namespace pkcs11ha
