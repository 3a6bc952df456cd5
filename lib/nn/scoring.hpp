// Scores of bases: which positions are hidden in which pass, and how the two strands are joined.
//
// In pass r of K every A, C, G or T whose 0-based position in its record is r modulo K is hidden,
// in all records of a context at once, so each base is scored once, and hidden when it is. (On a
// circular record whose length K divides, a rotation therefore rotates the scores; where K does not
// divide it, bases near the two cuts are scored beside other hidden ones.)
// The reverse strand is the same procedure on the reverse complement, mapped back: reverse
// complementing a record and scoring both strands gives the same numbers, reversed. Both strands:
// the mean of the log-probabilities of each of the four bases, normalised so that the four
// probabilities sum to one (a mean of logits).
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "m5/error.hpp"
#include "m5/session.hpp"

namespace m5 {

enum class Strand { kForward, kReverse, kBoth };
enum class Metric { kPerplexity, kBits, kNll, kEntropy };

struct ScoringOptions {
  int passes = 7;  // K >= 1
  Strand strand = Strand::kForward;
  bool unmasked = false;        // one pass, nothing hidden: not a likelihood
  bool all_bases = false;       // keep the log-probabilities of all four bases
  bool memory = true;           // use the genome memory of a model that has one; never unmasked
  int forward_passes() const {  // of the model
    return (unmasked ? 1 : passes) * (strand == Strand::kBoth ? 2 : 1);
  }
};

// Whether score_sequences asks a genome memory.
bool uses_memory(const ModelConfig& config, const ScoringOptions& options);

struct SequenceScores {
  // [length] log p(base), nats; NaN where the token is not A, C, G or T.
  std::vector<float> log_p;
  // [length][4] with all_bases, else empty. log_p is what it holds for the base.
  std::vector<float> log_probs;
};

// The model gave a value that is not finite for this position (0-based) of this sequence.
class NotFinite : public Error {
 public:
  NotFinite(std::size_t sequence, std::int64_t position, const std::string& message)
      : Error(ErrorKind::kNumeric, message), sequence(sequence), position(position) {}
  const std::size_t sequence;
  const std::int64_t position;
};

// Scores every A, C, G and T of the sequences; `out` gets one entry a sequence. on_rows, when set,
// is told after each pass how many rows went through the model, and in the end of those that had
// nothing to hide, as if they had been run. memory, where one is used: what it says of rows of the
// sequences, or of their reverse complements; empty: a memory of the sequences themselves. Throws
// as Session::log_probs, and NotFinite.
using StrandCounts = std::function<RowCounts(bool reverse)>;
void score_sequences(Session& session, std::span<const TokenView> sequences,
                     const ScoringOptions& options, std::vector<SequenceScores>& out,
                     const std::function<void(std::int64_t rows)>& on_rows = {},
                     const StrandCounts& memory = {});

// Passes, of those of one strand, in which a sequence of the call has a base to hide: a pass in
// which none has is not run. All sequences go through the model in each.
int working_passes(std::span<const TokenView> sequences, const ScoringOptions& options);

// Bytes score_sequences takes for so many rows beside Session::memory_needed, its result included,
// and the genome memories of so many sequences in so many contexts of the model of `config`, made
// by so many workers.
std::uint64_t scoring_memory(std::int64_t rows, const ScoringOptions& options);
std::uint64_t genome_memory_bytes(const ModelConfig& config, const ScoringOptions& options,
                                  std::int64_t rows, std::int64_t sequences, std::int64_t contexts,
                                  int workers);
// Bytes of its result, and of the tokens that go with it.
std::uint64_t scored_memory(std::int64_t rows, const ScoringOptions& options);

// nats -> the metric: exp(nll), nll / ln 2, nll. Not for kEntropy.
double metric_from_nll(Metric metric, double nll);
// Entropy in bits of four log-probabilities.
double entropy_bits(const float* log_probs);

}  // namespace m5
