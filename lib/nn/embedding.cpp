#include "m5/embedding.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <string>

#include "m5/error.hpp"
#include "nn/arguments.hpp"
#include "nn/pooling.hpp"
#include "nn/scoring.hpp"

namespace m5 {

namespace {

[[noreturn]] void misuse(const std::string& what) { throw Error(ErrorKind::kUsage, what); }

void check(const Session& session, const EmbeddingOptions& options) {
  check_strand(options.strand);
  if (options.layer < -1 || options.layer > session.config().layers) {
    misuse("layer " + std::to_string(options.layer) + " does not exist: the model has 0 to " +
           std::to_string(session.config().layers) + ", and -1 is the last");
  }
  if (options.pool != Pool::kMean && options.pool != Pool::kMax && options.pool != Pool::kStd) {
    misuse("pool: " + std::to_string(static_cast<int>(options.pool)) + " is none");
  }
}

void check(std::span<const TokenView> sequences, std::span<const PoolInterval> intervals) {
  for (std::size_t i = 0; i < intervals.size(); ++i) {
    const PoolInterval& interval = intervals[i];
    const auto fail = [i](const std::string& what) {
      misuse("interval " + std::to_string(i) + ": " + what);
    };
    if (interval.sequence < 0 || interval.sequence >= static_cast<std::int64_t>(sequences.size())) {
      fail("no sequence " + std::to_string(interval.sequence));
    }
    const TokenView& view = sequences[static_cast<std::size_t>(interval.sequence)];
    const std::int64_t begin = interval.begin, end = interval.end;
    if (begin < 0 || begin >= view.length || end <= begin || end - begin > view.length ||
        (end > view.length && !view.circular)) {
      fail(std::to_string(begin) + " to " + std::to_string(end) + " is no part of a " +
           (view.circular ? "circular" : "linear") + " sequence of " + std::to_string(view.length) +
           " nt");
    }
  }
}

// Sequences as one strand reads them.
struct Reading {
  Reading(std::span<const TokenView> sequences, bool reverse)
      : views(sequences.begin(), sequences.end()) {
    std::int64_t rows = 0;
    for (const TokenView& view : views) rows += view.length;
    if (!reverse) return;
    tokens.reserve(static_cast<std::size_t>(rows));
    for (TokenView& view : views) {
      const std::size_t first = tokens.size();
      tokens.insert(tokens.end(), view.tokens, view.tokens + view.length);
      view.tokens = tokens.data() + first;
      reverse_complement(std::span(tokens).subspan(first));
    }
  }
  std::vector<Token> tokens;
  std::vector<TokenView> views;
};

// Throws NotFinite at a position of the sequence as it was given.
void hidden(Session& session, const Reading& reading, bool reverse, int layer,
            const Session::RowSink& sink) {
  const int dim = session.config().dim;
  session.hidden(reading.views, layer, [&](std::int64_t first, int n, const float* values) {
    const float* const end = values + std::int64_t{n} * dim;
    const float* const bad = std::find_if(values, end, [](float v) { return !std::isfinite(v); });
    if (bad != end) {
      std::int64_t position = first + (bad - values) / dim;
      std::size_t sequence = 0;
      while (position >= reading.views[sequence].length) {
        position -= reading.views[sequence++].length;
      }
      if (reverse) position = reading.views[sequence].length - 1 - position;
      throw NotFinite(sequence, position);
    }
    sink(first, n, values);
  });
}

// Calls read(reverse) for each strand, and has the results of both averaged. Returns them.
std::vector<float> of_strands(Strand strand,
                              const std::function<std::vector<float>(bool reverse)>& read) {
  if (strand != Strand::kBoth) return read(strand == Strand::kReverse);
  std::vector<float> values = read(false);
  const std::vector<float> other = read(true);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = 0.5f * (values[i] + other[i]);
  return values;
}

int layer_of(const Session& session, const EmbeddingOptions& options) {
  return options.layer < 0 ? session.config().layers : options.layer;
}

}  // namespace

Embeddings pooled_embeddings(Session& session, std::span<const TokenView> sequences,
                             std::span<const PoolInterval> intervals,
                             const EmbeddingOptions& options) {
  check(session, options);
  check_sequences(sequences);
  check(sequences, intervals);
  const auto dim = static_cast<std::size_t>(session.config().dim);
  Embeddings result;
  result.bases.resize(intervals.size());
  if (intervals.empty()) return result;
  result.values = of_strands(options.strand, [&](bool reverse) {
    const Reading reading(sequences, reverse);
    std::vector<PoolInterval> read(intervals.begin(), intervals.end());
    for (PoolInterval& interval : read) {
      if (!reverse) break;
      interval = mirrored(interval, sequences[static_cast<std::size_t>(interval.sequence)].length);
    }
    Pooler pooler(reading.views, read, session.config().dim, options.pool);
    hidden(session, reading, reverse, layer_of(session, options),
           [&](std::int64_t first, int n, const float* values) { pooler.add(first, n, values); });
    std::vector<float> values(read.size() * dim);
    for (std::size_t i = 0; i < read.size(); ++i) {
      result.bases[i] = pooler.result(i, values.data() + i * dim);
    }
    return values;
  });
  return result;
}

std::vector<float> base_embeddings(Session& session, std::span<const TokenView> sequences,
                                   const EmbeddingOptions& options) {
  check(session, options);
  const std::int64_t rows = check_sequences(sequences);
  const std::int64_t dim = session.config().dim;
  std::vector<std::int64_t> first_row;
  for (std::int64_t row = 0; const TokenView& view : sequences) {
    first_row.push_back(row);
    row += view.length;
  }
  return of_strands(options.strand, [&](bool reverse) {
    const Reading reading(sequences, reverse);
    std::vector<float> values(static_cast<std::size_t>(rows * dim));
    hidden(
        session, reading, reverse, layer_of(session, options),
        [&](std::int64_t first, int n, const float* block) {
          if (!reverse) {
            std::copy_n(block, n * dim, values.begin() + first * dim);
            return;
          }
          auto s = static_cast<std::size_t>(
              std::upper_bound(first_row.begin(), first_row.end(), first) - first_row.begin() - 1);
          for (std::int64_t row = first; row < first + n; ++row, block += dim) {
            while (row >= first_row[s] + sequences[s].length) ++s;
            const std::int64_t at = 2 * first_row[s] + sequences[s].length - 1 - row;
            std::copy_n(block, dim, values.begin() + at * dim);
          }
        });
    return values;
  });
}

}  // namespace m5
