// Masked nucleotides with substitutions: which positions a step is scored on, and what hides them.
#pragma once

#include <cstdint>
#include <span>

#include "data/windows.hpp"
#include "m5/tokens.hpp"
#include "nn/objective.hpp"

namespace m5 {

struct MaskOptions {
  double rate = 0.15;        // of the A/C/G/T positions, 0 < rate <= 1
  std::int64_t every = 0;    // K > 0: instead every K-th position, from a phase drawn by window
  double masked = 0.8;       // shares of the chosen positions; they add up to 1
  double substituted = 0.1;  // replaced by another base: a simulated SNP
  double kept = 0.1;         // left as they are, and asked about all the same
};

// Throws Error(kUsage) naming the value that is out of range.
void check_mask_options(const MaskOptions& options);

// Hides chosen positions of `tokens`, a window, in place and appends them to the objective.
// first_row: row of tokens[0] in the batch, beyond every row already in the objective. What happens
// to a position depends on the window's id and the position alone.
void mask_window(const WindowId& id, const MaskOptions& options, std::int64_t first_row,
                 std::span<Token> tokens, Objective& objective);

}  // namespace m5
