#include "nn/scoring.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include "kernels/backend.hpp"
#include "nn/arguments.hpp"
#include "nn/memories.hpp"
#include "nn/memory_mix.hpp"

namespace m5 {

namespace {

struct Hidden {
  std::vector<std::int64_t> rows;  // over the concatenated sequences, ascending
  std::vector<float> log_probs;    // [rows][4]
};

// Throws NotFinite for the first value that is not finite, if there is one. reverse: the views are
// reverse complements.
void name_position(const std::vector<TokenView>& views, const Hidden& hidden, bool reverse) {
  const auto bad = std::find_if(hidden.log_probs.begin(), hidden.log_probs.end(),
                                [](float value) { return !std::isfinite(value); });
  if (bad == hidden.log_probs.end()) return;
  std::int64_t position =
      hidden.rows[static_cast<std::size_t>(bad - hidden.log_probs.begin()) / kBases];
  std::size_t sequence = 0;
  while (position >= views[sequence].length) position -= views[sequence++].length;
  if (reverse) position = views[sequence].length - 1 - position;
  throw NotFinite(sequence, position);
}

// One strand: `tokens` are the sequences one after the other as this strand reads them, and are
// unchanged on return. store(sequence, position, four log-probabilities) in this strand's terms.
template <class Store>
void score_strand(bool reverse, Session& session, std::vector<Token>& tokens,
                  std::span<const TokenView> sequences, const ScoringOptions& options,
                  const RowCounts& counts, Hidden& hidden,
                  const std::function<void(std::int64_t)>& on_rows, Store store) {
  std::vector<TokenView> views(sequences.begin(), sequences.end());
  std::int64_t total = 0;
  for (TokenView& view : views) {
    view.tokens = tokens.data() + total;
    total += view.length;
  }
  const int passes = options.unmasked ? 1 : options.passes;
  const int working = working_passes(sequences, options);
  std::vector<Token> saved;
  for (int pass = 0; pass < working; ++pass) {
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
        session.log_probs(views, hidden.rows, hidden.log_probs.data(), counts);
      } catch (const Error& error) {
        if (error.kind() == ErrorKind::kNumeric) name_position(views, hidden, reverse);
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
  if (on_rows && passes > working) on_rows(total * (passes - working));
}

void check(const ScoringOptions& options) {
  constexpr int kMostPasses = 1'000'000;
  if (options.passes < 1 || options.passes > kMostPasses) {
    throw Error(ErrorKind::kUsage, "passes: " + std::to_string(options.passes) + " is not 1 to " +
                                       std::to_string(kMostPasses));
  }
  check_strand(options.strand);
}

// four: those of the other strand, and on return the mean of both, the probabilities made to sum to
// one. Sums in pairs (A with C, G with T), so that complementing, which reverses their order,
// changes no bit.
void join(const float* forward, float* four) {
  for (int b = 0; b < kBases; ++b) four[b] = 0.5f * (forward[b] + four[b]);
  const float top = std::max(std::max(four[0], four[1]), std::max(four[2], four[3]));
  double e[kBases];
  for (int b = 0; b < kBases; ++b) e[b] = std::exp(static_cast<double>(four[b] - top));
  const double log_sum = std::log((e[0] + e[1]) + (e[2] + e[3])) + static_cast<double>(top);
  for (int b = 0; b < kBases; ++b) {
    four[b] = static_cast<float>(static_cast<double>(four[b]) - log_sum);
  }
}

}  // namespace

bool uses_memory(const ModelConfig& config, const ScoringOptions& options) {
  return options.memory && !options.unmasked && !config.memory.empty();
}

std::vector<SequenceScores> score_with_counts(Session& session,
                                              std::span<const TokenView> sequences,
                                              const ScoringOptions& options,
                                              const std::function<void(std::int64_t rows)>& on_rows,
                                              const StrandCounts& memory) {
  constexpr float kNone = std::numeric_limits<float>::quiet_NaN();
  const bool both = options.strand == Strand::kBoth, four_wanted = both || options.all_bases;
  check(options);
  const std::int64_t total = check_sequences(sequences);
  std::vector<SequenceScores> out(sequences.size());
  std::vector<Token> tokens;
  tokens.reserve(static_cast<std::size_t>(total));
  for (std::size_t s = 0; s < sequences.size(); ++s) {
    const TokenView& view = sequences[s];
    const auto length = static_cast<std::size_t>(view.length);
    tokens.insert(tokens.end(), view.tokens, view.tokens + view.length);
    out[s].log_p.assign(length, kNone);
    if (four_wanted) out[s].log_probs.assign(length * kBases, kNone);
  }
  std::optional<Memories> memories;
  const bool with_memory = uses_memory(session.config(), options);
  if (with_memory && !memory) {
    memories.emplace(sequences, session.config().memory,
                     [&](std::int64_t tasks, const std::function<void(int, std::int64_t)>& work) {
                       session.for_each(tasks, work);
                     });
  }
  const auto counts = [&](bool reverse) {
    if (memories) return memories->counts(reverse);
    return with_memory ? memory(reverse) : RowCounts{};
  };
  Hidden hidden;
  // The sequence and position as they were given, whatever the strand.
  const auto keep = [&](std::size_t s, std::size_t at, const float* log_probs) {
    out[s].log_p[at] = log_probs[sequences[s].tokens[at]];
    if (four_wanted) std::copy_n(log_probs, kBases, out[s].log_probs.data() + at * kBases);
  };
  if (options.strand != Strand::kReverse) {
    score_strand(false, session, tokens, sequences, options, counts(false), hidden, on_rows,
                 [&](std::size_t s, std::int64_t position, const float* log_probs) {
                   keep(s, static_cast<std::size_t>(position), log_probs);
                 });
  }
  if (options.strand != Strand::kForward) {
    std::int64_t first = 0;
    for (const TokenView& view : sequences) {
      reverse_complement(std::span(tokens).subspan(static_cast<std::size_t>(first),
                                                   static_cast<std::size_t>(view.length)));
      first += view.length;
    }
    score_strand(true, session, tokens, sequences, options, counts(true), hidden, on_rows,
                 [&](std::size_t s, std::int64_t position, const float* log_probs) {
                   const auto at = static_cast<std::size_t>(sequences[s].length - 1 - position);
                   float four[kBases];
                   std::reverse_copy(log_probs, log_probs + kBases, four);
                   if (both) join(out[s].log_probs.data() + at * kBases, four);
                   keep(s, at, four);
                 });
  }
  if (options.all_bases) return out;
  for (SequenceScores& scores : out) std::vector<float>().swap(scores.log_probs);
  return out;
}

std::vector<SequenceScores> score_sequences(Session& session, std::span<const TokenView> sequences,
                                            const ScoringOptions& options,
                                            const std::function<void(std::int64_t rows)>& on_rows) {
  return score_with_counts(session, sequences, options, on_rows, {});
}

int working_passes(std::span<const TokenView> sequences, const ScoringOptions& options) {
  if (options.unmasked) return 1;
  std::int64_t longest = 0;
  for (const TokenView& view : sequences) longest = std::max(longest, view.length);
  return static_cast<int>(std::min<std::int64_t>(options.passes, longest));
}

std::uint64_t scoring_memory(std::int64_t rows, const ScoringOptions& options) {
  const auto n = static_cast<std::uint64_t>(rows);
  const std::uint64_t hidden =
      options.unmasked ? n : n / static_cast<std::uint64_t>(options.passes) + 1;
  // vectors that grow by push_back may hold twice what they need
  const bool four_for_now = options.strand == Strand::kBoth && !options.all_bases;
  return scored_memory(rows, options) + (four_for_now ? n * kBases * sizeof(float) : 0) +
         hidden * (2 * sizeof(std::int64_t) + 2 * sizeof(Token) + kBases * sizeof(float));
}

std::uint64_t genome_memory_bytes(const ModelConfig& config, const ScoringOptions& options,
                                  std::int64_t rows, std::int64_t sequences, std::int64_t contexts,
                                  int workers) {
  if (!uses_memory(config, options)) return 0;
  return Memories::memory_needed(config.memory, rows, sequences, contexts, workers) +
         MemoryMix<float>::work_bytes(config.memory, workers, std::min(rows, kernels::kTileRows),
                                      /*training=*/false);
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
