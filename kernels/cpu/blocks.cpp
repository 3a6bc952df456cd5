#include "kernels/cpu/blocks.hpp"

#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <string>

#include "m5/error.hpp"

namespace m5::kernels {
namespace {

constexpr std::size_t kHugePage = std::size_t{1} << 21;
constexpr std::size_t kLarge = 2 * kHugePage;
constexpr std::size_t kCacheLine = 64;

}  // namespace

void* Blocks::take(std::size_t bytes) {
  const bool large = bytes >= kLarge;
  const std::size_t align = large ? kHugePage : kCacheLine;
  const std::size_t size = bytes == 0 ? align : (bytes + align - 1) / align * align;
  std::lock_guard lock(mutex_);
  if (large) {
    for (Large& block : large_) {
      if (!block.spare || block.size != size) continue;
      block.spare = false;
      return block.memory.get();
    }
    // Of another size: never more memory than the calls alone take.
    std::erase_if(large_, [](const Large& block) { return block.spare; });
    large_.reserve(large_.size() + 1);  // may throw, while there is nothing to free
  }
  void* const memory = std::aligned_alloc(align, size);
  if (!memory) {
    throw Error(ErrorKind::kResource,
                "out of memory: " + std::to_string(bytes) + " bytes asked for");
  }
  if (large) {
    large_.push_back({std::unique_ptr<void, Free>(memory), size, false});
#if defined(MADV_HUGEPAGE) && !defined(M5_ONLY_POSIX)
    madvise(memory, size, MADV_HUGEPAGE);  // advice: it may be refused
#endif
  } else {
    // Rows that a block never filled hold numbers.
    std::memset(memory, 0, size);
  }
  return memory;
}

void Blocks::give_back(void* memory) noexcept {
  std::lock_guard lock(mutex_);
  for (Large& block : large_) {
    if (block.memory.get() != memory) continue;
    block.spare = true;
    return;
  }
  std::free(memory);
}

}  // namespace m5::kernels
