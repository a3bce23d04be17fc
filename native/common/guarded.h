// Memory for secrets: locked, kept out of core dumps and forked children, wiped at its end.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <span>
#include <utility>
#include <vector>

namespace pkcs11ha {

// Overwrites memory that held a secret. The compiler does not remove the call.
inline void wipe(void* memory, std::size_t size) { ::explicit_bzero(memory, size); }

// Pages for a secret of a given size. Throws std::bad_alloc if there are none.
class GuardedMemory {
 public:
  GuardedMemory() = default;
  explicit GuardedMemory(std::size_t size) : size_(size) {
    const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    mapped_ = (std::max<std::size_t>(size, 1) + page - 1) / page * page;
    void* memory = ::mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    // Ignores a failure of mlock: under a small RLIMIT_MEMLOCK the pages can be swapped, but stay out of dumps.
    (void)::mlock(memory, mapped_);
    ::madvise(memory, mapped_, MADV_DONTDUMP);
    ::madvise(memory, mapped_, MADV_WIPEONFORK);
    memory_ = static_cast<std::uint8_t*>(memory);
  }
  GuardedMemory(GuardedMemory&& other) noexcept { swap(other); }
  GuardedMemory& operator=(GuardedMemory&& other) noexcept {
    GuardedMemory taken(std::move(other));
    swap(taken);
    return *this;
  }
  ~GuardedMemory() {
    if (memory_ == nullptr) return;
    wipe(memory_, mapped_);
    ::munmap(memory_, mapped_);
  }

  // Empty if there is no memory.
  std::span<std::uint8_t> bytes() const { return {memory_, size_}; }
  explicit operator bool() const { return memory_ != nullptr; }

 private:
  void swap(GuardedMemory& other) {
    std::swap(memory_, other.memory_);
    std::swap(mapped_, other.mapped_);
    std::swap(size_, other.size_);
  }

  std::uint8_t* memory_ = nullptr;
  std::size_t mapped_ = 0;
  std::size_t size_ = 0;
};

// Allocator that wipes what it frees: a vector that grows leaves no copy behind.
template <typename T>
struct WipingAllocator {
  using value_type = T;
  WipingAllocator() = default;
  template <typename U>
  WipingAllocator(const WipingAllocator<U>&) {}
  T* allocate(std::size_t count) { return std::allocator<T>().allocate(count); }
  void deallocate(T* memory, std::size_t count) {
    wipe(memory, count * sizeof(T));
    std::allocator<T>().deallocate(memory, count);
  }
  template <typename U>
  bool operator==(const WipingAllocator<U>&) const { return true; }
};

// Bytes that may be a secret, for a short time.
using WipedBytes = std::vector<std::uint8_t, WipingAllocator<std::uint8_t>>;

}  // namespace pkcs11ha
