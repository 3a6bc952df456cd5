// Sequences of tests.
#pragma once

#include <cstdint>
#include <vector>

#include "base/random.hpp"
#include "data/tokenizer.hpp"

namespace m5::test {

using Sequence = std::vector<Token>;

// letters: the tokens are 0 .. letters - 1.
inline Sequence random_tokens(std::size_t length, std::uint64_t seed, int letters = 4) {
  Sequence t(length);
  for (std::size_t i = 0; i < length; ++i) {
    t[i] = static_cast<Token>(uniform_below(seed, i, static_cast<std::uint64_t>(letters)));
  }
  return t;
}

inline Sequence joined(Sequence a, const Sequence& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

// The other strand.
inline Sequence reversed(Sequence tokens) {
  reverse_complement(tokens);
  return tokens;
}

}  // namespace m5::test
