// What the public calls ask of sequences.
#pragma once

#include <cstdint>
#include <span>

#include "m5/tokens.hpp"

namespace m5 {

// Returns the rows of all sequences. Throws Error(kUsage) naming the sequence that is none: without
// tokens, longer than anything, with a token that may not be there, or with a context out of order.
std::int64_t check_sequences(std::span<const TokenView> sequences);
// Throws Error(kUsage) unless it is one of the three.
void check_strand(Strand strand);

}  // namespace m5
