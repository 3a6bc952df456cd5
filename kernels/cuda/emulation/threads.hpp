// CUDA's threads on the host: each thread of a block is a fiber, blocks run one after the other.
// A fiber runs until it ends or waits at a barrier or a shuffle of its warp; a warp until all of it
// waits at the block's barrier; then the next one does, in ascending or descending order of threads
// (M5_EMULATION_ORDER=descending). A missing barrier shows as a wrong result in one of the orders;
// a barrier that not all threads reach ends the program with a message. Shared memory is filled
// with NaN before every block. Asynchronous copies are done as late as may be, when they are waited
// for, in ascending order, and at once in descending order.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  constexpr dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {}
};

namespace m5::kernels::cuda::emulation {

// Of the running thread.
extern dim3 thread_index, block_index, block_size, grid_size;

void run_grid(dim3 grid, int threads, std::size_t shared_bytes, const std::function<void()>& body);
void* shared_bytes();
void block_barrier();
// Gives every lane of the warp the value that lane `from` (of the warp) came with.
std::uint64_t exchange(std::uint64_t value, int from);
void copy_async(void* to, const void* from, std::size_t bytes);
void commit_copies();
// All of the thread's copies but those of the last `groups` commits.
void wait_for_copies(std::size_t groups);
// kernels/cuda/mma.hpp
void mma(float* d, const unsigned* a, unsigned b0, unsigned b1);
void load_transposed(const void* row, unsigned& first, unsigned& second);
// kernels/cuda/warpgroup_mma.hpp: a warp's 16 rows. Done as late as may be, when they are waited
// for, in ascending order, and at once in descending order.
void warpgroup_mma(float* d, int tiles, const unsigned* a, const unsigned char* b);
void wait_for_products();
// Waits for the other lanes of the warp.
void warp_barrier();

}  // namespace m5::kernels::cuda::emulation

#define threadIdx (::m5::kernels::cuda::emulation::thread_index)
#define blockIdx (::m5::kernels::cuda::emulation::block_index)
#define blockDim (::m5::kernels::cuda::emulation::block_size)
#define gridDim (::m5::kernels::cuda::emulation::grid_size)

// NOLINTBEGIN(bugprone-reserved-identifier): CUDA's own names
inline void __syncthreads() { m5::kernels::cuda::emulation::block_barrier(); }
inline void __syncwarp() { m5::kernels::cuda::emulation::warp_barrier(); }

template <class T>
T __shfl_sync(unsigned, T value, int from) {
  std::uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  bits = m5::kernels::cuda::emulation::exchange(bits, from);
  std::memcpy(&value, &bits, sizeof value);
  return value;
}
template <class T>
T __shfl_xor_sync(unsigned all, T value, int mask) {
  return __shfl_sync(all, value, static_cast<int>(threadIdx.x % 32) ^ mask);
}

inline void __pipeline_memcpy_async(void* to, const void* from, std::size_t bytes) {
  m5::kernels::cuda::emulation::copy_async(to, from, bytes);
}
inline void __pipeline_commit() { m5::kernels::cuda::emulation::commit_copies(); }
inline void __pipeline_wait_prior(std::size_t groups) {
  m5::kernels::cuda::emulation::wait_for_copies(groups);
}
// NOLINTEND(bugprone-reserved-identifier)

namespace m5::kernels::cuda {
template <class T>
T* shared_memory() {
  return static_cast<T*>(emulation::shared_bytes());
}
// Without the call that libm's needs where the compiler may not assume the instruction.
inline float fmaf(float a, float b, float c) { return a * b + c; }
}  // namespace m5::kernels::cuda
