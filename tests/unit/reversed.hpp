// The other strand of a sequence, for tests.
#pragma once

#include <vector>

#include "data/tokenizer.hpp"

namespace m5::test {

inline std::vector<Token> reversed(std::vector<Token> tokens) {
  reverse_complement(tokens);
  return tokens;
}

}  // namespace m5::test
