// Objects of oneDNN that products share: made rarely, and only where there is memory for them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <dnnl.hpp>
#include <mutex>
#include <vector>

namespace m5::kernels::onednn {

const dnnl::engine& engine();
dnnl::stream& stream();  // of the calling thread

// Memory of the calling thread: scratchpads and converted operands.
std::vector<std::uint8_t>& thread_bytes(int slot, std::size_t bytes);

// Lives while objects of oneDNN are made, by one thread at a time. oneDNN 2.6 takes it for granted
// that there is memory for them, and reads from null where there is none. Throws Error(kResource)
// if there is not so much to spare.
class SpareMemory {
 public:
  explicit SpareMemory(std::size_t bytes = std::size_t{1} << 22);

 private:
  std::unique_lock<std::recursive_mutex> lock_;
};

// What a matrix is to a product, its type and its layout.
enum class Role : std::uint8_t {
  kWide,        // rows of fp32 that are rounded to bf16
  kSource,      // rows of fp32
  kNarrow,      // rows of bf16
  kOther,       // of an outer product: the rows of bf16 that are the weights
  kTransposed,  // and those that are read as columns
  kResult,      // rows of fp32
  kBias,        // one row
  kScratch      // bytes: one row
};

// stride: of rows, 0 where they follow each other; of kWide alone.
dnnl::memory::desc desc_of(Role role, int rows, int columns, int stride = 0);

// An operand of the next product of this thread: one object of oneDNN for each role and shape,
// given new data each time.
dnnl::memory operand(Role role, int rows, int columns, const void* data, int stride = 0);
dnnl::memory scratchpad(int slot, std::size_t bytes);

}  // namespace m5::kernels::onednn
