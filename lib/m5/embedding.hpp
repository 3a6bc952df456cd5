// What `m5 embed` computes: hidden rows, one a base or pooled over intervals, of one strand or of
// both.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "m5/export.hpp"
#include "m5/session.hpp"
#include "m5/tokens.hpp"

namespace m5 {

enum class Pool { kMean, kMax, kStd };  // standard deviation: of all bases, divided by n

// Positions [begin, end) of one sequence, 0 <= begin < end. On a circular sequence end may pass the
// length; an interval is never longer than the sequence.
struct PoolInterval {
  std::int64_t sequence = 0;
  std::int64_t begin = 0, end = 0;
};

struct EmbeddingOptions {
  int layer = -1;  // rows after so many blocks; 0: the embedding, -1: the last
  Pool pool = Pool::kMean;
  // Reverse: rows of the reverse complement, at the positions of the sequence as it was given.
  // Both: the mean of the two, so that a sequence and its reverse complement have the same rows.
  Strand strand = Strand::kBoth;
};

struct Embeddings {
  std::vector<float> values;        // [intervals][dim]; zeros where there is no base
  std::vector<std::int64_t> bases;  // [intervals] A, C, G and T that were pooled
};

// Pools the rows of A, C, G and T of each interval. Both functions throw Error(kUsage) for
// sequences that are none (m5/session.hpp), and for intervals, layers and options out of range; and
// Error(kNumeric) naming sequence and position where the model gives a value that is not finite.
M5_API Embeddings pooled_embeddings(Session& session, std::span<const TokenView> sequences,
                                    std::span<const PoolInterval> intervals,
                                    const EmbeddingOptions& options = {});

// A row for every position, [rows of all sequences][dim]; nothing is pooled.
M5_API std::vector<float> base_embeddings(Session& session, std::span<const TokenView> sequences,
                                          const EmbeddingOptions& options = {});

}  // namespace m5
