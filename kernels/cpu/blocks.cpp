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

Blocks::~Blocks() {
  for (const auto& [size, memory] : spare_) std::free(memory);
}

void* Blocks::take(std::size_t bytes) {
  const bool large = bytes >= kLarge;
  const std::size_t align = large ? kHugePage : kCacheLine;
  const std::size_t size = bytes == 0 ? align : (bytes + align - 1) / align * align;
  std::lock_guard lock(mutex_);
  if (large) {
    if (const auto at = spare_.find(size); at != spare_.end()) {
      void* const memory = at->second;
      large_.emplace(memory, size);
      spare_.erase(at);
      return memory;
    }
    // Of another size: never more memory than the calls alone take.
    for (const auto& [spare_size, memory] : spare_) std::free(memory);
    spare_.clear();
  }
  void* const memory = std::aligned_alloc(align, size);
  if (!memory) {
    throw Error(ErrorKind::kResource,
                "out of memory: " + std::to_string(bytes) + " bytes asked for");
  }
  if (large) {
    large_.emplace(memory, size);
    madvise(memory, size, MADV_HUGEPAGE);  // advice: it may be refused
  } else {
    // Rows that a block never filled hold numbers.
    std::memset(memory, 0, size);
  }
  return memory;
}

void Blocks::give_back(void* memory) {
  std::lock_guard lock(mutex_);
  if (const auto at = large_.find(memory); at != large_.end()) {
    spare_.emplace(at->second, memory);
    large_.erase(at);
    return;
  }
  std::free(memory);
}

}  // namespace m5::kernels
