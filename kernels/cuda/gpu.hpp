// What the kernels of this folder are written against: CUDA under nvcc, a host emulation
// (emulation/threads.hpp) under any C++ compiler. Also the two types of an operand.
//
// Rules of the kernels
// - Shared memory is dynamic, taken by shared_memory<T>(); its bytes come with the launch.
// - All threads of a warp meet at every shuffle, all of a block at every barrier.
// - No atomics on floats: sums have a fixed order.
// - Offsets into arrays of rows are 64-bit.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__CUDACC__)
#include <cuda_bf16.h>
#include <cuda_pipeline_primitives.h>
#include <cuda_runtime.h>
#define M5_KERNEL __global__ void
#define M5_DEVICE __device__ __forceinline__
#define M5_BOTH __host__ __device__ __forceinline__
#define M5_BOUNDS(threads, blocks) __launch_bounds__(threads, blocks)
#else
#include "kernels/cuda/emulation/threads.hpp"
#define M5_KERNEL void
#define M5_DEVICE inline
#define M5_BOTH inline
#define M5_BOUNDS(threads, blocks)
#endif

namespace m5::kernels::cuda {

inline constexpr int kWarp = 32;

struct bf16 {
  std::uint16_t bits;
};

M5_BOTH float to_float(float x) { return x; }
M5_BOTH float to_float(bf16 x) {
#if defined(__CUDA_ARCH__)
  return __uint_as_float(static_cast<unsigned>(x.bits) << 16);
#else
  const std::uint32_t wide = static_cast<std::uint32_t>(x.bits) << 16;
  float y;
  std::memcpy(&y, &wide, sizeof y);
  return y;
#endif
}

// To nearest, ties to even; NaN stays NaN.
template <class E>
M5_BOTH E from_float(float x);
template <>
M5_BOTH float from_float<float>(float x) {
  return x;
}
template <>
M5_BOTH bf16 from_float<bf16>(float x) {
#if defined(__CUDA_ARCH__)
  return {__bfloat16_as_ushort(__float2bfloat16_rn(x))};
#else
  std::uint32_t wide;
  std::memcpy(&wide, &x, sizeof wide);
  if ((wide & 0x7fffffffu) > 0x7f800000u) return {0x7fff};
  wide += 0x7fffu + ((wide >> 16) & 1);
  return {static_cast<std::uint16_t>(wide >> 16)};
#endif
}

// Four neighbouring columns in one access. Rows are multiples of 8 columns, and aligned so.
template <class E>
struct alignas(4 * sizeof(E)) Four {
  E v[4];
};
template <class E>
M5_DEVICE void load4(const E* p, float (&x)[4]) {
  const Four<E> four = *reinterpret_cast<const Four<E>*>(p);
#pragma unroll
  for (int i = 0; i < 4; ++i) x[i] = to_float(four.v[i]);
}
template <class E>
M5_DEVICE void store4(E* p, const float (&x)[4]) {
  Four<E> four;
#pragma unroll
  for (int i = 0; i < 4; ++i) four.v[i] = from_float<E>(x[i]);
  *reinterpret_cast<Four<E>*>(p) = four;
}

// The same sum in every lane.
M5_DEVICE float warp_sum(float x) {
#pragma unroll
  for (int lanes = kWarp / 2; lanes > 0; lanes /= 2) x += __shfl_xor_sync(0xffffffffu, x, lanes);
  return x;
}

#if defined(__CUDACC__)
template <class T>
M5_DEVICE T* shared_memory() {
  extern __shared__ __align__(16) unsigned char m5_shared_memory[];
  return reinterpret_cast<T*>(m5_shared_memory);
}
#endif

M5_BOTH std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }
M5_BOTH std::int64_t round_up(std::int64_t a, std::int64_t b) { return ceil_div(a, b) * b; }

}  // namespace m5::kernels::cuda
