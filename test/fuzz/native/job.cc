// Runs a job whose packet is one part of the input, on a library whose answers are the other part. FUZZ_LIBRARY names
// the library (library.cc).
#include <cstdlib>
#include <dlfcn.h>

#define main hostMain
#include "host/unity.cc"
#undef main

using namespace pkcs11ha;

namespace {

// Calls that would leave the process, or load another library.
constexpr std::uint32_t kLoadCall = 1;
constexpr std::uint32_t kGiveWayCall = 5;
constexpr std::uint32_t kFinalizeCall = 10;
// Call whose argument is the size of its result: most of the time would go into memory.
constexpr std::uint32_t kRandomCall = 71;

using Feed = void (*)(const std::uint8_t*, std::size_t);

struct Bench {
  Host host{-1, nullptr};
  Feed feed = nullptr;

  Bench() {
    const char* path = std::getenv("FUZZ_LIBRARY");
    std::string problem;
    if (path == nullptr || host.module.load(path, "", problem) != CKR_OK) std::abort();
    feed = reinterpret_cast<Feed>(::dlsym(::dlopen(path, RTLD_NOW), "feed"));
    if (feed == nullptr) std::abort();
  }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static Bench bench;
  if (size < 8) return 0;
  const std::size_t cut = 4 + data[0] % (size - 4);
  WipedBytes packet;
  Writer writer(packet);
  writer.u64(1);
  writer.u64(0);
  writer.u32(data[1] & (job::kOnNewSession | job::kSessionless | job::kUndo | job::kOnLoginSession));
  writer.u32(1 + data[2] % 3);
  // The first call is one that the host knows.
  std::uint32_t call = 2 + data[3] % 90;
  if (call == kLoadCall || call == kGiveWayCall || call == kFinalizeCall || call == kRandomCall) ++call;
  writer.u32(call);
  packet.insert(packet.end(), data + 4, data + cut);
  bench.feed(data + cut, size - cut);
  Reader reader(packet);
  const job::Header header = job::Header::read(reader);
  Session session(bench.host.module);
  JobContext context{bench.host.module, session, bench.host.held, bench.host.module.functions()};
  WipedBytes reply;
  runJob(header, reader, context, reply);
  // Id, status and number of results.
  if (reply.size() < 16) std::abort();
  return 0;
}
