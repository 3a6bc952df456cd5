// What `m5 score` computes: log p(base | all other bases) of every base, by K masked passes.
//
// In pass r of K every A, C, G or T whose 0-based position in its sequence is r modulo K is hidden,
// in all sequences of the call at once, so each base is scored once, and hidden when it is. (On a
// circular sequence whose length K divides, a rotation therefore rotates the scores; where K does
// not divide it, bases near the two cuts are scored beside other hidden ones.)
// The reverse strand is the same procedure on the reverse complement, mapped back: reverse
// complementing a sequence and scoring both strands gives the same numbers, reversed. Both strands:
// the mean of the log-probabilities of each of the four bases, normalised so that the four
// probabilities sum to one (a mean of logits).
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "m5/export.hpp"
#include "m5/session.hpp"
#include "m5/tokens.hpp"

namespace m5 {

struct ScoringOptions {
  int passes = 7;  // K, 1 to 10^6
  Strand strand = Strand::kForward;
  bool unmasked = false;        // one pass, nothing hidden: not a likelihood
  bool all_bases = false;       // keep the log-probabilities of all four bases
  bool memory = true;           // use the genome memory of a model that has one; never unmasked
  int forward_passes() const {  // of the model
    return (unmasked ? 1 : passes) * (strand == Strand::kBoth ? 2 : 1);
  }
};

struct SequenceScores {
  // [length] log p(base), nats; NaN where the token is not A, C, G or T.
  std::vector<float> log_p;
  // [length][4] with all_bases, else empty. log_p is what it holds for the base.
  std::vector<float> log_probs;
};

// Scores every A, C, G and T of the sequences; one entry a sequence. A genome memory is made of the
// sequences of each context. on_rows, when set, is told after each pass how many rows went through
// the model, and in the end of those that had nothing to hide, as if they had been run; what it
// throws ends the call. Throws Error(kUsage) for sequences that are none (m5/session.hpp) and for
// options out of range, and Error(kNumeric) naming sequence and position where the model gives a
// value that is not finite.
M5_API std::vector<SequenceScores> score_sequences(
    Session& session, std::span<const TokenView> sequences, const ScoringOptions& options = {},
    const std::function<void(std::int64_t rows)>& on_rows = {});

}  // namespace m5
