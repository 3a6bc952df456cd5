// Counter-based random numbers: a pure function of (seed, index), so that a result never depends on
// who draws first, and a resumed run needs no generator state.
#pragma once

#include <cmath>
#include <cstdint>
#include <numbers>

namespace m5 {

// The finaliser of SplitMix64: a bijection whose output passes as random for counters as input.
inline constexpr std::uint64_t mix_bits(std::uint64_t z) {
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
  return z ^ (z >> 31);
}

// The seed is mixed before the counter is added and again after, so streams of nearby seeds do not
// overlap.
inline constexpr std::uint64_t random_bits(std::uint64_t seed, std::uint64_t index) {
  const std::uint64_t key = mix_bits(seed + 0x9e3779b97f4a7c15ULL);
  return mix_bits(mix_bits(key + index * 0x9e3779b97f4a7c15ULL) ^ key);
}

// A seed for a named sub-stream of `seed` (layer, epoch, step ...).
inline constexpr std::uint64_t sub_seed(std::uint64_t seed, std::uint64_t stream) {
  return random_bits(seed ^ 0x6d35000000000000ULL, stream);
}

// In [0, 1), 53 bits.
inline constexpr double uniform(std::uint64_t seed, std::uint64_t index) {
  return static_cast<double>(random_bits(seed, index) >> 11) * 0x1p-53;
}

// In [0, n), n >= 1; bias below n / 2^64.
inline constexpr std::uint64_t uniform_below(std::uint64_t seed, std::uint64_t index,
                                             std::uint64_t n) {
  __extension__ using Wide = unsigned __int128;
  return static_cast<std::uint64_t>((static_cast<Wide>(random_bits(seed, index)) * n) >> 64);
}

// Standard normal (Box-Muller); indices of one stream are independent of each other.
inline double normal(std::uint64_t seed, std::uint64_t index) {
  const double u = 1.0 - uniform(seed, 2 * index);  // (0, 1]
  const double v = uniform(seed, 2 * index + 1);
  return std::sqrt(-2.0 * std::log(u)) * std::cos(2.0 * std::numbers::pi * v);
}

}  // namespace m5
