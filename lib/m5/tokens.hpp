// One nucleotide = one token = one row.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "m5/export.hpp"

namespace m5 {

using Token = std::uint8_t;

inline constexpr Token kTokenA = 0, kTokenC = 1, kTokenG = 2, kTokenT = 3;
inline constexpr Token kTokenN = 4;     // N and every other IUPAC code: context, never scored
inline constexpr Token kTokenMask = 5;  // hidden base
inline constexpr Token kTokenPad = 6;   // outside a linear sequence; embeds to zero
inline constexpr int kTokenKinds = 7;
inline constexpr int kBases = 4;

inline constexpr bool is_base(Token t) { return t < kBases; }
// A<->T, C<->G; N, MASK and PAD are their own complement.
inline constexpr Token complement(Token t) { return is_base(t) ? static_cast<Token>(3 - t) : t; }

// IUPAC nucleotide codes in either case, one token a letter: U is read as T, and every code that
// stands for several bases as N. Throws Error(kInput) naming the 1-based position of any other byte
// (gaps, digits, amino acids ...).
M5_API std::vector<Token> tokenize(std::string_view letters);

// In place; a token that is no base stays what it is.
M5_API void reverse_complement(std::span<Token> tokens);

// Which strands of a sequence are read. What comes of the reverse strand is given at the positions
// of the sequence as it was given.
enum class Strand { kForward, kReverse, kBoth };

// A tokenised sequence the encoder reads; looks at memory owned by the caller.
struct TokenView {
  const Token* tokens = nullptr;  // [length], no PAD inside
  std::int64_t length = 0;        // nt, >= 1
  bool circular = false;          // neighbourhoods wrap around
  // Sequences with the same context share one attention state. Contexts are numbered 0, 1, 2 ...
  // without gaps, and the sequences of one context are consecutive.
  std::int64_t context = 0;
};

}  // namespace m5
