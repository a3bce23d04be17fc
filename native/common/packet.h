// Traffic of the channel's socket: packets that hold a PIN or are too large for the shared memory, and the bell.
// A packet is one SOCK_SEQPACKET message. Above `kInlineLimit`, the packet's bytes are in a memfd that is passed with a
// message of one byte.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "common/descriptor.h"

namespace pkcs11ha {

// Maximum size of a packet in a ring or in a socket message (bytes). Several such packets fit a ring, and a socket's
// default buffer.
constexpr std::size_t kInlineLimit = 8 * 1024;
// Maximum size of any packet (bytes).
constexpr std::size_t kPacketLimit = std::size_t{1} << 30;

enum class SendResult { sent, wouldBlock, peerGone, tooLarge, failed };
enum class ReceiveResult { received, bell, wouldBlock, ended, failed };

// Message of the socket: a packet's bytes in the receiver's room, or the descriptor of the memory that holds them.
struct Message {
  std::span<std::uint8_t> bytes;
  Descriptor memory;
};

// Tells the other side to look at the shared memory. If the socket is full, the other side has messages to read anyway.
void ringBell(int socket);

// Sends `head` and `tail` as one packet of at least two bytes. `tail` may be empty; a secret is sent as the tail,
// without a copy, from the guarded memory that holds it.
SendResult sendPacket(int socket, std::span<const std::uint8_t> head, std::span<const std::uint8_t> tail,
                      bool block);

// Receives one message into `room`, which has `kInlineLimit` bytes: guarded memory, since a message may hold a secret.
// Reads no memory that was passed: its size is what the other side says.
ReceiveResult receiveMessage(int socket, std::span<std::uint8_t> room, Message& message, bool block);

// Returns the size of passed memory (bytes); nothing if it is none, or larger than `most`.
std::optional<std::size_t> sizeOfMemory(const Descriptor& memory, std::size_t most);

// Copies passed memory into a buffer of its size. Returns false if it has become smaller.
bool readMemory(const Descriptor& memory, std::span<std::uint8_t> buffer);

// Receives one packet: into `room`, as a message, or into `large`, which is resized to the packet.
ReceiveResult receivePacket(int socket, std::span<std::uint8_t> room, std::vector<std::uint8_t>& large,
                            std::span<std::uint8_t>& packet, bool block);

}  // namespace pkcs11ha
