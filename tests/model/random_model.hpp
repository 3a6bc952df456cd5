// Parameters and sequences drawn by a seed, for the tests of whole models on any device.
#pragma once

#include <cstdint>
#include <random>
#include <vector>

#include "kernels/parameters.hpp"
#include "m5/config.hpp"
#include "m5/tokens.hpp"

namespace m5 {

// Parameters without a structure that could hide a fault: no zero bias, no gain of one. Every value
// is exactly a float.
template <class T = double>
std::vector<T> random_parameters(const ModelConfig& config, unsigned seed) {
  const ParameterTable table(config);
  std::vector<T> values(static_cast<std::size_t>(table.total));
  std::mt19937_64 random(seed);
  for (const ParameterSpec& spec : table.specs) {
    const double scale = spec.init_scale > 0 ? 1.5 * spec.init_scale : 0.3;
    for (std::int64_t i = spec.offset; i < spec.offset + spec.size; ++i) {
      const double uniform = static_cast<double>(random() >> 11) * 0x1p-53;
      values[static_cast<std::size_t>(i)] =
          static_cast<float>(spec.init_value + scale * (2 * uniform - 1) * 1.7320508);
    }
  }
  return values;
}

// Bases, with some N and MASK among them.
inline std::vector<Token> random_tokens(std::int64_t length, unsigned seed) {
  std::mt19937_64 random(seed);
  std::vector<Token> tokens(static_cast<std::size_t>(length));
  for (Token& t : tokens) {
    const auto draw = random() % 100;
    t = draw < 5 ? kTokenN : draw < 20 ? kTokenMask : static_cast<Token>(random() % kBases);
  }
  return tokens;
}

}  // namespace m5
