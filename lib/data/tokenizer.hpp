// Letters to tokens. The whole alphabet policy of m5 is here (man m5, SEQUENCES).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "m5/tokens.hpp"

namespace m5 {

// What a sequence was made of beside A C G T, in either case.
struct BaseCounts {
  std::int64_t n = 0;          // N
  std::int64_t ambiguous = 0;  // R Y S W K M B D H V: token N
  std::int64_t u = 0;          // U, read as T
  bool operator==(const BaseCounts&) const = default;
};

// As the public tokenize, naming file and record too. Adds to *counts when given.
std::vector<Token> tokenize(std::string_view letters, const std::string& file,
                            const std::string& record, BaseCounts* counts = nullptr);

}  // namespace m5
