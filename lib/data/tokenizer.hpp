// Letters to tokens. The whole alphabet policy of m5 is here (man m5, SEQUENCES).
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "m5/tokens.hpp"

namespace m5 {

// What a sequence was made of.
struct BaseCounts {
  std::array<std::int64_t, 4> bases{};  // A C G T, either case; U counts as T
  std::int64_t n = 0;                   // N
  std::int64_t ambiguous = 0;           // R Y S W K M B D H V: token N
  std::int64_t lower_case = 0;          // of all letters
  std::int64_t u = 0;                   // U, read as T

  std::int64_t scoreable() const { return bases[0] + bases[1] + bases[2] + bases[3]; }
  std::int64_t total() const { return scoreable() + n + ambiguous; }
  BaseCounts& operator+=(const BaseCounts& other);
  bool operator==(const BaseCounts&) const = default;
};

// letters: IUPAC nucleotide codes in either case, nothing else. One token a letter. Adds to *counts
// when given. Throws Error(kInput) naming file, record and the 1-based position of any other byte
// ('-', '*', digits, amino acids ...).
std::vector<Token> tokenize(std::string_view letters, const std::string& file,
                            const std::string& record, BaseCounts* counts = nullptr);

std::vector<Token> reverse_complement(std::span<const Token> tokens);

// 'A' 'C' 'G' 'T' 'N', '?' for MASK and PAD.
char token_letter(Token token);

}  // namespace m5
