// Formulas that more than one kernel has: the norm's root, gelu.
#pragma once

#include "kernels/cuda/gpu.hpp"

namespace m5::kernels::cuda {

// The units for special functions: errors of about 2^-22, no number below 2^-126. In the
// emulation they are as far off, up or down by the bits of the result.
M5_BOTH float as_a_unit(float y) {
  std::uint32_t bits;
  std::memcpy(&bits, &y, sizeof y);
  if (std::abs(y) < 0x1p-126f) return 0 * y;
  return y * (1 + ((bits * 0x9e3779b9u) >> 31 != 0 ? 0x1p-22f : -0x1p-22f));
}
M5_DEVICE float fast_exp2(float x) {
#if defined(__CUDA_ARCH__)
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#else
  return as_a_unit(std::exp2(x));
#endif
}
M5_DEVICE float fast_inverse(float x) {
#if defined(__CUDA_ARCH__)
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#else
  return as_a_unit(1 / x);
#endif
}
M5_DEVICE float fast_root(float x) {
#if defined(__CUDA_ARCH__)
  float y;
  asm("sqrt.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#else
  return as_a_unit(std::sqrt(x));
#endif
}
M5_DEVICE float fast_inverse_root(float x) {
#if defined(__CUDA_ARCH__)
  float y;
  asm("rsqrt.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#else
  return as_a_unit(1 / std::sqrt(x));
#endif
}

// 1 / sqrt(mean(x^2) + epsilon); NaN where the squares overflow (inf - inf is NaN).
M5_DEVICE float inverse_root(float square, int dim, float epsilon) {
  return 1 / sqrtf(square / static_cast<float>(dim) + epsilon) + (square - square);
}
// The same by the unit, for kernels that are bound by memory. (Those of fused_mma.hpp spill with
// it: what is a call in the other one keeps the compiler from reading ahead.)
M5_DEVICE float fast_inverse_root(float square, int dim, float epsilon) {
  return fast_inverse_root(square / static_cast<float>(dim) + epsilon) + (square - square);
}

inline constexpr float kGelu = 0.7978845608028654f;  // sqrt(2 / pi)
inline constexpr float kGeluCube = 0.044715f;

M5_BOTH float gelu_value(float x) {
  return 0.5f * x * (1 + tanhf(kGelu * (x + kGeluCube * x * x * x)));
}
M5_DEVICE float gelu_slope(float x) {
  const float t = tanhf(kGelu * (x + kGeluCube * x * x * x));
  return 0.5f * (1 + t) + 0.5f * x * (1 - t * t) * kGelu * (1 + 3 * kGeluCube * x * x);
}

// gelu as x / (1 + exp(-2 u)), u what the hyperbolic tangent is taken of: three special functions
// for two numbers, where tanhf takes 20 instructions for each. Side by side: none waits.
template <int kCount>
M5_DEVICE void gelu(float (&x)[kCount]) {
  static_assert(kCount % 2 == 0);
  constexpr float kLinear = -2 * kGelu * 1.4426950408889634f, kCube = kLinear * kGeluCube;
  // Beyond 2^60 the result is 0 but for 1e-17, and the product of two is a number.
  constexpr float kMost = 60;
  float a[kCount], inverse[kCount / 2];
#pragma unroll
  for (int i = 0; i < kCount; ++i) a[i] = fminf(x[i] * fmaf(kCube, x[i] * x[i], kLinear), kMost);
#pragma unroll
  for (int i = 0; i < kCount; ++i) a[i] = fast_exp2(a[i]);
#pragma unroll
  for (int i = 0; i < kCount; ++i) a[i] += 1;
#pragma unroll
  for (int i = 0; i < kCount; i += 2) inverse[i / 2] = a[i] * a[i + 1];
#pragma unroll
  for (int i = 0; i < kCount; i += 2) inverse[i / 2] = fast_inverse(inverse[i / 2]);
#pragma unroll
  for (int i = 0; i < kCount; ++i) x[i] *= a[i ^ 1] * inverse[i / 2];
}

}  // namespace m5::kernels::cuda
