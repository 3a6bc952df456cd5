// Beside the public scoring: metrics of scores, the memory they take, and errors that keep their
// place.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "m5/error.hpp"
#include "m5/scoring.hpp"

namespace m5 {

enum class Metric { kPerplexity, kBits, kNll, kEntropy };

// Whether score_sequences asks a genome memory.
bool uses_memory(const ModelConfig& config, const ScoringOptions& options);

// The model gave a value that is not finite for this position (0-based) of this sequence.
class NotFinite : public Error {
 public:
  NotFinite(std::size_t sequence, std::int64_t position)
      : Error(ErrorKind::kNumeric, "sequence " + std::to_string(sequence) + ": position " +
                                       std::to_string(position + 1) +
                                       ": the model gives a value that is not finite"),
        sequence(sequence),
        position(position) {}
  const std::size_t sequence;
  const std::int64_t position;
};

// score_sequences. memory, where one is used: what it says of rows of the sequences, or of their
// reverse complements; empty: a memory of the sequences themselves. Throws NotFinite.
using StrandCounts = std::function<RowCounts(bool reverse)>;
std::vector<SequenceScores> score_with_counts(Session& session,
                                              std::span<const TokenView> sequences,
                                              const ScoringOptions& options,
                                              const std::function<void(std::int64_t rows)>& on_rows,
                                              const StrandCounts& memory);

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
