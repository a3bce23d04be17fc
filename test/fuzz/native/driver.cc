// Main program of the native fuzz targets for compilers without libFuzzer: mutates a seed of bytes.
//
//   TARGET SECONDS SEED
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

int main(int count, char** arguments) {
  const double seconds = count > 1 ? std::atof(arguments[1]) : 5;
  const unsigned seed = count > 2 ? static_cast<unsigned>(std::atoi(arguments[2])) : 1;
  std::mt19937_64 random(seed);
  const auto until = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  std::uint64_t inputs = 0;
  std::vector<std::uint8_t> input;
  for (; std::chrono::steady_clock::now() < until; ++inputs) {
    // Begins anew now and then; else changes a few bytes of the last input.
    if (input.empty() || random() % 16 == 0) {
      input.resize(1 + random() % 512);
      for (auto& byte : input) byte = static_cast<std::uint8_t>(random() % 4 == 0 ? random() : random() % 4);
    }
    for (std::uint64_t change = random() % 8; change > 0; --change) {
      input[random() % input.size()] = static_cast<std::uint8_t>(random());
    }
    LLVMFuzzerTestOneInput(input.data(), input.size());
  }
  std::printf("%llu inputs, seed %u\n", static_cast<unsigned long long>(inputs), seed);
}
