// IEEE 754 half precision.
#pragma once

#include <bit>
#include <cstdint>

namespace m5 {

// Rounded to nearest, ties to even; what is too great becomes infinity.
inline std::uint16_t half_from_float(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const auto sign = static_cast<std::uint16_t>((bits >> 16) & 0x8000u);
  const std::uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return static_cast<std::uint16_t>(sign | 0x7e00u);   // NaN
  if (magnitude >= 0x47800000u) return static_cast<std::uint16_t>(sign | 0x7c00u);  // >= 65536
  std::uint32_t half, rest, tie;
  if (magnitude < 0x38800000u) {  // below 2^-14: subnormal, in units of 2^-24
    const std::uint32_t shift = 126 - (magnitude >> 23);
    if (shift > 24 + 1) return sign;  // below half of the least subnormal
    const std::uint32_t mantissa = (magnitude & 0x7fffffu) | 0x800000u;
    half = mantissa >> shift;
    rest = mantissa & ((1u << shift) - 1);
    tie = 1u << (shift - 1);
  } else {
    half = (magnitude - 0x38000000u) >> 13;
    rest = magnitude & 0x1fffu;
    tie = 0x1000u;
  }
  if (rest > tie || (rest == tie && (half & 1u))) ++half;  // may carry into infinity, rightly
  return static_cast<std::uint16_t>(sign | half);
}

inline float float_from_half(std::uint16_t half) {
  const std::uint32_t sign = static_cast<std::uint32_t>(half & 0x8000u) << 16;
  const std::uint32_t exponent = (half >> 10) & 0x1fu, mantissa = half & 0x3ffu;
  if (exponent == 0) {
    const float value = static_cast<float>(mantissa) * 0x1p-24f;
    return sign ? -value : value;
  }
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7f800000u | (mantissa << 13));
  return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (mantissa << 13));
}

}  // namespace m5
