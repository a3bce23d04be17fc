// Packet that a lane has taken.
#pragma once

#include <vector>

#include "common/guarded.h"
#include "common/packet.h"
#include "host/lane.h"
#include "host/wire.h"

namespace pkcs11ha {

// Packet of a lane, with room for it. A packet with a PIN comes as a message of the socket, into guarded memory.
struct LanePacket {
  std::vector<std::uint8_t> bytes;
  GuardedMemory guarded{kInlineLimit};
  Bytes taken;
};

// Completes taking a packet. Returns false if the application's side has ended or its ring is broken.
inline bool takeFrom(Host& host, Ring::Taken kind, LanePacket& packet) {
  if (kind == Ring::Taken::onSocket)
    return receivePacket(host.socket, packet.guarded.bytes(), packet.bytes, packet.taken, true) ==
           ReceiveResult::received;
  packet.taken = packet.bytes;
  return kind == Ring::Taken::packet;
}

// Wipes a packet that holds a PIN at the end of its scope. Every packet counts as secret until its header is read.
class WipedPacket {
 public:
  explicit WipedPacket(Bytes packet) : packet_(packet) {}
  ~WipedPacket() {
    if (isSecret) wipe(packet_.data(), packet_.size());
  }
  WipedPacket(const WipedPacket&) = delete;
  WipedPacket& operator=(const WipedPacket&) = delete;

  bool isSecret = true;

 private:
  Bytes packet_;
};

}  // namespace pkcs11ha
