#include "nn/scoring.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace m5 {

namespace {

struct Hidden {
  std::vector<std::int64_t> rows;  // over the concatenated sequences, ascending
  std::vector<float> log_probs;    // [rows][4]
};

// Throws NotFinite for the first value that is not finite, if there is one. reverse: the views are
// reverse complements.
void name_position(const std::vector<TokenView>& views, const Hidden& hidden, bool reverse,
                   const Error& error) {
  const auto bad = std::find_if(hidden.log_probs.begin(), hidden.log_probs.end(),
                                [](float value) { return !std::isfinite(value); });
  if (bad == hidden.log_probs.end()) return;
  std::int64_t position =
      hidden.rows[static_cast<std::size_t>(bad - hidden.log_probs.begin()) / kBases];
  std::size_t sequence = 0;
  while (position >= views[sequence].length) position -= views[sequence++].length;
  if (reverse) position = views[sequence].length - 1 - position;
  throw NotFinite(sequence, position, error.what());
}

// One strand: `tokens` are the sequences one after the other as this strand reads them, and are
// unchanged on return. store(sequence, position, four log-probabilities) in this strand's terms.
template <class Store>
void score_strand(bool reverse, Session& session, std::vector<Token>& tokens,
                  std::span<const TokenView> sequences, const ScoringOptions& options,
                  Hidden& hidden, const std::function<void(std::int64_t)>& on_rows, Store store) {
  std::vector<TokenView> views(sequences.begin(), sequences.end());
  std::int64_t total = 0;
  for (TokenView& view : views) {
    view.tokens = tokens.data() + total;
    total += view.length;
  }
  const int passes = options.unmasked ? 1 : options.passes;
  std::vector<Token> saved;
  for (int pass = 0; pass < passes; ++pass) {
    hidden.rows.clear();
    saved.clear();
    std::int64_t first = 0;
    for (const TokenView& view : views) {
      for (std::int64_t i = pass; i < view.length; i += passes) {
        Token& token = tokens[static_cast<std::size_t>(first + i)];
        if (!is_base(token)) continue;
        hidden.rows.push_back(first + i);
        if (options.unmasked) continue;
        saved.push_back(token);
        token = kTokenMask;
      }
      first += view.length;
    }
    if (!hidden.rows.empty()) {
      hidden.log_probs.resize(hidden.rows.size() * kBases);
      std::fill(hidden.log_probs.begin(), hidden.log_probs.end(), 0.0f);
      try {
        session.log_probs(views, hidden.rows, hidden.log_probs.data());
      } catch (const Error& error) {
        if (error.kind() == ErrorKind::kNumeric) name_position(views, hidden, reverse, error);
        throw;
      }
    }
    for (std::size_t i = 0; i < saved.size(); ++i) {
      tokens[static_cast<std::size_t>(hidden.rows[i])] = saved[i];
    }
    std::size_t sequence = 0;
    first = 0;
    for (std::size_t i = 0; i < hidden.rows.size(); ++i) {
      while (hidden.rows[i] >= first + views[sequence].length) first += views[sequence++].length;
      store(sequence, hidden.rows[i] - first, hidden.log_probs.data() + i * kBases);
    }
    if (on_rows) on_rows(total);
  }
}

// Makes the four sum to one. Sums in pairs (A with C, G with T), so that complementing, which
// reverses their order, changes no bit.
void normalise(float* log_probs) {
  const float top =
      std::max(std::max(log_probs[0], log_probs[1]), std::max(log_probs[2], log_probs[3]));
  double e[kBases];
  for (int b = 0; b < kBases; ++b) e[b] = std::exp(static_cast<double>(log_probs[b] - top));
  const double log_sum = std::log((e[0] + e[1]) + (e[2] + e[3])) + top;
  for (int b = 0; b < kBases; ++b) {
    log_probs[b] = static_cast<float>(static_cast<double>(log_probs[b]) - log_sum);
  }
}

}  // namespace

void score_sequences(Session& session, std::span<const TokenView> sequences,
                     const ScoringOptions& options, std::vector<SequenceScores>& out,
                     const std::function<void(std::int64_t rows)>& on_rows) {
  constexpr float kNone = std::numeric_limits<float>::quiet_NaN();
  out.clear();
  out.resize(sequences.size());
  std::vector<Token> tokens;
  std::int64_t total = 0;
  for (const TokenView& view : sequences) total += view.length;
  tokens.reserve(static_cast<std::size_t>(total));
  for (std::size_t s = 0; s < sequences.size(); ++s) {
    const TokenView& view = sequences[s];
    const auto length = static_cast<std::size_t>(view.length);
    tokens.insert(tokens.end(), view.tokens, view.tokens + view.length);
    out[s].log_p.assign(length, kNone);
    if (options.all_bases) out[s].log_probs.assign(length * kBases, kNone);
  }
  Hidden hidden;
  const bool both = options.strand == Strand::kBoth;
  if (options.strand != Strand::kReverse) {
    score_strand(false, session, tokens, sequences, options, hidden, on_rows,
                 [&](std::size_t s, std::int64_t position, const float* log_probs) {
                   const auto at = static_cast<std::size_t>(position);
                   out[s].log_p[at] = log_probs[sequences[s].tokens[at]];
                   if (options.all_bases) {
                     std::copy_n(log_probs, kBases, out[s].log_probs.data() + at * kBases);
                   }
                 });
  }
  if (options.strand != Strand::kForward) {
    std::int64_t first = 0;
    for (const TokenView& view : sequences) {
      const auto begin = tokens.begin() + first, end = begin + view.length;
      std::reverse(begin, end);
      std::transform(begin, end, begin, [](Token t) { return complement(t); });
      first += view.length;
    }
    score_strand(true, session, tokens, sequences, options, hidden, on_rows,
                 [&](std::size_t s, std::int64_t position, const float* log_probs) {
                   const auto at = static_cast<std::size_t>(sequences[s].length - 1 - position);
                   const auto join = [both](float& value, float other) {
                     value = both ? 0.5f * (value + other) : other;
                   };
                   join(out[s].log_p[at], log_probs[complement(sequences[s].tokens[at])]);
                   if (!options.all_bases) return;
                   float* four = out[s].log_probs.data() + at * kBases;
                   for (int b = 0; b < kBases; ++b) join(four[b], log_probs[kBases - 1 - b]);
                   if (both) normalise(four);
                 });
  }
}

std::uint64_t scoring_memory(std::int64_t rows, const ScoringOptions& options) {
  const auto n = static_cast<std::uint64_t>(rows);
  const std::uint64_t hidden =
      options.unmasked ? n : n / static_cast<std::uint64_t>(options.passes) + 1;
  // vectors that grow by push_back may hold twice what they need
  return scored_memory(rows, options) +
         hidden * (2 * sizeof(std::int64_t) + 2 * sizeof(Token) + kBases * sizeof(float));
}

std::uint64_t scored_memory(std::int64_t rows, const ScoringOptions& options) {
  const std::uint64_t result = sizeof(float) * (options.all_bases ? 1 + kBases : 1);
  return static_cast<std::uint64_t>(rows) * (sizeof(Token) + result);
}

double metric_from_nll(Metric metric, double nll) {
  switch (metric) {
    case Metric::kPerplexity:
      return std::exp(nll);
    case Metric::kBits:
      return nll / std::log(2.0);
    default:
      return nll;
  }
}

double entropy_bits(const float* log_probs) {
  double term[kBases];
  for (int b = 0; b < kBases; ++b) {
    const double log_p = log_probs[b];
    term[b] = -std::exp(log_p) * log_p;
  }
  return ((term[0] + term[1]) + (term[2] + term[3])) / std::log(2.0);
}

}  // namespace m5
