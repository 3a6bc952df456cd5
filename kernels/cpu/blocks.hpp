// Memory of the cpu backend. Large blocks are kept for the next call: fresh pages must be zeroed by
// the kernel, which costs a training step some per cent.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <vector>

namespace m5::kernels {

class Blocks {
 public:
  Blocks() = default;
  Blocks(const Blocks&) = delete;
  Blocks& operator=(const Blocks&) = delete;
  ~Blocks() = default;  // everything taken has been given back

  // Zeroed if small; a large block may hold what it held before. Throws Error(kResource).
  void* take(std::size_t bytes);
  void give_back(void* memory) noexcept;

 private:
  struct Free {
    void operator()(void* memory) const { std::free(memory); }
  };
  struct Large {
    std::unique_ptr<void, Free> memory;
    std::size_t size;
    bool spare;  // given back, and kept
  };

  std::mutex mutex_;
  std::vector<Large> large_;  // some dozens at most
};

}  // namespace m5::kernels
