// Reads a ring of packets whose counters and bytes are the input: no access outside of it, and an end in any case.
#include <cstdlib>
#include <cstring>
#include <new>
#include <vector>

#include "common/packet.cc"
#include "common/ring.cc"

using namespace pkcs11ha;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  // The memory as another process sees it.
  alignas(64) static std::uint8_t memory[sizeof(Ring)];
  // Fills the memory with the input again and again, by copies of copies.
  const std::size_t whole = sizeof memory;
  std::size_t filled = std::min(size, whole);
  if (filled == 0) std::memset(memory, 0, whole);
  if (filled > 0) std::memcpy(memory, data, filled);
  for (; filled > 0 && filled < whole; filled += std::min(filled, whole - filled)) {
    std::memcpy(memory + filled, memory, std::min(filled, whole - filled));
  }
  if (size > 17 && data[16] % 2 == 0) {
    // Counters near each other, as in a ring that works.
    std::uint64_t taken = 0;
    std::memcpy(&taken, data, sizeof taken);
    const std::uint64_t written = taken + data[17] * std::uint64_t{97};
    std::memcpy(memory, &written, sizeof written);
    std::memcpy(memory + 64, &taken, sizeof taken);
  }
  auto* ring = reinterpret_cast<Ring*>(memory);
  std::vector<std::uint8_t> packet;
  for (int reads = 0;; ++reads) {
    const Ring::Taken kind = ring->take(packet);
    if (kind == Ring::Taken::nothing || kind == Ring::Taken::broken) break;
    // Each entry takes at least a header of what the counters say, at most the whole ring.
    if (reads > static_cast<int>(Ring::kSize)) std::abort();
  }
  if (size > 0) ring->put({data, size});
  return 0;
}
