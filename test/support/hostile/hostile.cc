// PKCS#11 module that loads another one and, told through a file, does harm to the channel that its host shares with the
// application: HOSTILE_MODULE names the module, HOSTILE_CONTROL the file with the name of the harm.
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "common/channel_page.h"
#include "common/packet.h"

// The module is one file.
#include "common/packet.cc"
#include "common/ring.cc"

namespace {

using namespace pkcs11ha;

// Descriptor of the host's end of the socket.
constexpr int kSocket = 3;

ChannelPage* page = nullptr;
std::uint64_t state = 88172645463325252;

std::uint64_t random64() {
  state ^= state << 13;
  state ^= state >> 7;
  return state ^= state << 17;
}

void pause(unsigned microseconds) { ::usleep(microseconds); }

// Finds the shared memory in the list of this process's mappings.
void findPage() {
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    if (line.find("pkcs11-ha-channel") == std::string::npos) continue;
    page = reinterpret_cast<ChannelPage*>(std::strtoull(line.c_str(), nullptr, 16));
  }
}

void put(const std::vector<std::uint8_t>& packet) {
  while (!page->replies.put(packet)) pause(50);
}

bool pass(int descriptor) {
  std::uint8_t marker = 1;
  iovec part{&marker, 1};
  return sendMessage(kSocket, &part, 1, descriptor, false) != SendResult::peerGone;
}

int memoryOf(off_t size) {
  const int memory = ::memfd_create("hostile", 0);
  if (::ftruncate(memory, size) != 0) ::abort();
  return memory;
}

// Passes a descriptor in the place of a large packet.
void passAsPacket(int descriptor) {
  pass(descriptor);
  page->replies.putSocketMark();
  ringBell(kSocket);
}

// Writes a reply in its own form: a job's number, a status, and steps of calls.
std::vector<std::uint8_t> replyOf(std::uint64_t job, const std::vector<std::uint32_t>& calls) {
  std::vector<std::uint8_t> packet;
  const auto add = [&packet](const auto& value) {
    const auto* bytes = reinterpret_cast<const std::uint8_t*>(&value);
    packet.insert(packet.end(), bytes, bytes + sizeof value);
  };
  add(job);
  add(std::uint32_t{0});
  add(static_cast<std::uint32_t>(calls.size()));
  for (const std::uint32_t call : calls) {
    add(call);
    add(std::uint64_t{0});
    add(std::uint32_t{16});
    for (int i = 0; i < 2; ++i) add(random64());
  }
  return packet;
}

const std::map<std::string, std::function<void()>> harms = {
    // Memory that a library writes by mistake.
    {"scribble",
     [] {
       auto* bytes = reinterpret_cast<std::uint8_t*>(page);
       for (;;) {
         bytes[random64() % sizeof(ChannelPage)] = static_cast<std::uint8_t>(random64());
         if (random64() % 256 == 0) pause(1);
       }
     }},
    // Packets without the form of replies.
    {"packets",
     [] {
       for (;;) {
         std::vector<std::uint8_t> packet(1 + random64() % 512);
         for (auto& byte : packet) byte = static_cast<std::uint8_t>(random64());
         put(packet);
         ringBell(kSocket);
       }
     }},
    // Replies to jobs that are out, with other calls than the jobs have.
    {"forged",
     [] {
       for (;;) {
         for (std::uint64_t job = 1; job < 4000; ++job) put(replyOf(job, {41, 43, 61}));
         ringBell(kSocket);
       }
     }},
    // Replies that nobody has asked for.
    {"flood",
     [] {
       for (;;) put(replyOf(std::uint64_t{1} << 50, {}));
     }},
    {"bells",
     [] {
       for (;;) ringBell(kSocket);
     }},
    // More descriptors than there can be replies.
    {"descriptors",
     [] {
       const int memory = memoryOf(32);
       while (pass(memory)) pause(1);
     }},
    // A reply of 1 GiB.
    {"huge", [] { passAsPacket(memoryOf((off_t{1} << 30) - 4096)); }},
    {"pipe",
     [] {
       int ends[2];
       if (::pipe(ends) == 0) passAsPacket(ends[0]);
     }},
    {"device", [] { passAsPacket(::open("/dev/zero", O_RDONLY)); }},
    // Memory that becomes smaller while it is read.
    {"shrinking",
     [] {
       for (;;) {
         const int memory = memoryOf(off_t{1} << 26);
         passAsPacket(memory);
         if (::ftruncate(memory, 100) != 0) ::abort();
         ::close(memory);
         pause(500);
       }
     }},
    {"counters",
     [] {
       for (;;) {
         auto* word = reinterpret_cast<std::uint64_t*>(random64() % 2 == 0 ? &page->jobs : &page->replies);
         word[random64() % 2 * 8] = random64();
         ringBell(kSocket);
         pause(50);
       }
     }},
    // Shared memory that becomes smaller.
    {"truncated",
     [] {
       char path[96];
       const auto from = reinterpret_cast<std::uintptr_t>(page);
       std::snprintf(path, sizeof path, "/proc/self/map_files/%lx-%lx", from,
                     (from + sizeof(ChannelPage) + 4095) / 4096 * 4096);
       const int memory = ::open(path, O_RDWR);
       if (memory >= 0 && ::ftruncate(memory, 4096) == 0) std::fprintf(stderr, "the page was truncated\n");
     }},
};

void* doHarm(void*) {
  const char* control = std::getenv("HOSTILE_CONTROL");
  for (;;) {
    std::string harm;
    std::ifstream(control == nullptr ? "" : control) >> harm;
    const auto found = harms.find(harm);
    if (found != harms.end()) {
      findPage();
      if (page != nullptr) found->second();
      return nullptr;
    }
    pause(2000);
  }
}

}  // namespace

extern "C" __attribute__((visibility("default"))) unsigned long C_GetFunctionList(void** list) {
  void* module = ::dlopen(std::getenv("HOSTILE_MODULE"), RTLD_NOW);
  if (module == nullptr) return 5;
  const auto get = reinterpret_cast<unsigned long (*)(void**)>(::dlsym(module, "C_GetFunctionList"));
  pthread_t thread;
  ::pthread_create(&thread, nullptr, doHarm, nullptr);
  return get(list);
}
