// Rounding to bf16: the upper half of an fp32.
#pragma once

#include <bit>
#include <cstdint>

namespace m5::kernels {

// To nearest, ties to even. NaN stays NaN.
inline std::uint16_t bf16_bits(float x) {
  const auto bits = std::bit_cast<std::uint32_t>(x);
  const bool nan = (bits & 0x7fffffffu) > 0x7f800000u;
  // Half of the last place kept, less one where that is even: ties go to even.
  const std::uint32_t rounded = bits + 0x7fffu + ((bits >> 16) & 1u);
  return static_cast<std::uint16_t>((nan ? bits | 0x400000u : rounded) >> 16);
}

inline float bf16_value(std::uint16_t bits) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
}

}  // namespace m5::kernels
