// Memory of the cpu backend. Large blocks are kept for the next call: fresh pages must be zeroed by
// the kernel, which costs a training step some per cent.
#pragma once

#include <cstddef>
#include <map>
#include <mutex>
#include <unordered_map>

namespace m5::kernels {

class Blocks {
 public:
  Blocks() = default;
  Blocks(const Blocks&) = delete;
  Blocks& operator=(const Blocks&) = delete;
  ~Blocks();  // everything taken has been given back

  // Zeroed if small; a large block may hold what it held before. Throws Error(kResource).
  void* take(std::size_t bytes);
  void give_back(void* memory);

 private:
  std::mutex mutex_;
  std::unordered_map<void*, std::size_t> large_;  // in use, with their sizes
  std::multimap<std::size_t, void*> spare_;
};

}  // namespace m5::kernels
