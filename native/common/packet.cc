#include "common/packet.h"

#include <cerrno>
#include <cstring>
#include <new>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "common/descriptor.h"

namespace pkcs11ha {
namespace {

// Size of a message that is a bell (bytes); every packet is longer.
constexpr std::size_t kBellSize = 1;

bool writeAll(int fd, std::span<const std::uint8_t> bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::write(fd, bytes.data(), bytes.size());
    if (n < 0) {
      if (errno == EINTR) continue;
      return false;
    }
    bytes = bytes.subspan(static_cast<std::size_t>(n));
  }
  return true;
}

SendResult sendMessage(int socket, iovec* parts, std::size_t count, int descriptor, bool block) {
  msghdr message{};
  message.msg_iov = parts;
  message.msg_iovlen = count;
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  if (descriptor >= 0) {
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(header), &descriptor, sizeof descriptor);
  }
  for (;;) {
    if (::sendmsg(socket, &message, MSG_NOSIGNAL | (block ? 0 : MSG_DONTWAIT)) >= 0) return SendResult::sent;
    switch (errno) {
      case EINTR:
        continue;
      case EAGAIN:
        return SendResult::wouldBlock;
      case EPIPE:
      case ECONNRESET:
      case ENOTCONN:
        return SendResult::peerGone;
      case EMSGSIZE:
        return SendResult::tooLarge;
      default:
        return SendResult::failed;
    }
  }
}

}  // namespace

void ringBell(int socket) {
  std::uint8_t bell = 0;
  iovec part{&bell, kBellSize};
  sendMessage(socket, &part, 1, -1, false);
}

SendResult sendPacket(int socket, std::span<const std::uint8_t> head, std::span<const std::uint8_t> tail,
                      bool block) {
  const std::size_t size = head.size() + tail.size();
  if (size <= kBellSize) return SendResult::failed;
  if (size > kPacketLimit) return SendResult::tooLarge;
  if (size <= kInlineLimit) {
    iovec parts[2] = {{const_cast<std::uint8_t*>(head.data()), head.size()},
                      {const_cast<std::uint8_t*>(tail.data()), tail.size()}};
    return sendMessage(socket, parts, tail.empty() ? 1 : 2, -1, block);
  }
  Descriptor memory(::memfd_create("pkcs11-ha", MFD_CLOEXEC));
  if (!memory || !writeAll(memory.get(), head) || !writeAll(memory.get(), tail)) return SendResult::failed;
  std::uint8_t marker = 1;
  iovec part{&marker, 1};
  return sendMessage(socket, &part, 1, memory.get(), block);
}

ReceiveResult receiveMessage(int socket, std::span<std::uint8_t> room, Message& received, bool block) {
  received.bytes = {};
  received.memory.reset();
  for (;;) {
    iovec part{room.data(), room.size()};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    const ssize_t n = ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC | (block ? 0 : MSG_DONTWAIT));
    if (n == 0) return ReceiveResult::ended;
    if (n < 0) {
      if (errno == EINTR) continue;
      // If the peer died with unread requests, the socket reports ECONNRESET once before the peer's last replies.
      if (errno == ECONNRESET) continue;
      return errno == EAGAIN ? ReceiveResult::wouldBlock : ReceiveResult::failed;
    }
    for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr; header = CMSG_NXTHDR(&message, header)) {
      if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
      int descriptor = -1;
      std::memcpy(&descriptor, CMSG_DATA(header), sizeof descriptor);
      received.memory = Descriptor(descriptor);
    }
    if (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) return ReceiveResult::failed;
    if (!received.memory && n == kBellSize) return ReceiveResult::bell;
    received.bytes = room.first(static_cast<std::size_t>(n));
    return ReceiveResult::received;
  }
}

std::optional<std::size_t> sizeOfMemory(const Descriptor& memory, std::size_t most) {
  struct stat info {};
  // Memory is a regular file here; a pipe or a device could stop or never end a read.
  if (::fstat(memory.get(), &info) != 0 || !S_ISREG(info.st_mode) || info.st_size <= 0) return std::nullopt;
  const auto size = static_cast<std::size_t>(info.st_size);
  return size > most ? std::nullopt : std::optional(size);
}

bool readMemory(const Descriptor& memory, std::span<std::uint8_t> buffer) {
  std::size_t done = 0;
  while (done < buffer.size()) {
    const ssize_t n = ::pread(memory.get(), buffer.data() + done, buffer.size() - done, static_cast<off_t>(done));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    done += static_cast<std::size_t>(n);
  }
  return true;
}

ReceiveResult receivePacket(int socket, std::span<std::uint8_t> room, std::vector<std::uint8_t>& large,
                            std::span<std::uint8_t>& packet, bool block) {
  Message message;
  const ReceiveResult result = receiveMessage(socket, room, message, block);
  packet = message.bytes;
  if (result != ReceiveResult::received || !message.memory) return result;
  const std::optional<std::size_t> size = sizeOfMemory(message.memory, kPacketLimit);
  if (!size) return ReceiveResult::failed;
  try {
    large.resize(*size);
  } catch (const std::bad_alloc&) {
    return ReceiveResult::failed;
  }
  packet = large;
  return readMemory(message.memory, large) ? ReceiveResult::received : ReceiveResult::failed;
}

}  // namespace pkcs11ha
