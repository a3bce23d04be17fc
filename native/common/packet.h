// What goes through the channel's socket: packets that hold a PIN or are too large for the shared memory, and the bell.
// A packet is one SOCK_SEQPACKET message, or, above `kInlineLimit`, a memfd that travels beside an empty message and
// holds the packet's bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace pkcs11ha {

// Small enough that a full window of packets fits the shared memory, and a few of them a socket's default buffer.
constexpr std::size_t kInlineLimit = 8 * 1024;
constexpr std::size_t kPacketLimit = std::size_t{1} << 30;

enum class SendResult { sent, wouldBlock, peerGone, tooLarge, failed };
enum class ReceiveResult { received, bell, wouldBlock, ended, failed };

// Tells the other side to look at the shared memory. Where the socket is full it has something to look at anyway.
void ringBell(int socket);

// Sends `head` and `tail` as one packet of two bytes at least. `tail` may be empty; it is there so that a secret can go out from
// the memory that guards it, without a copy.
SendResult sendPacket(int socket, std::span<const std::uint8_t> head, std::span<const std::uint8_t> tail,
                      bool block);

// Receives one packet into `buffer`, which is resized to the packet.
ReceiveResult receivePacket(int socket, std::vector<std::uint8_t>& buffer, bool block);

// Overwrites memory that held a secret; never optimised away.
void wipe(void* memory, std::size_t size);

}  // namespace pkcs11ha
