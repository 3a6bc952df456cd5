#include "tools/loss_data.hpp"

#include <algorithm>
#include <cmath>
#include <optional>
#include <span>
#include <utility>

#include "m5/error.hpp"
#include "nn/memories.hpp"

namespace m5 {
namespace {

// visit(segments of the batch): so many as go through the model together.
template <class Visit>
void for_each_batch(const std::vector<Segment>& segments, const Visit& visit) {
  for (std::size_t s = 0; s < segments.size();) {
    const std::size_t first = s;
    std::int64_t total = 0;
    while (s < segments.size() && static_cast<std::int64_t>(s - first) < kLossBatchSegments &&
           (s == first || total + segments[s].length <= kLossBatchTokens)) {
      total += segments[s++].length;
    }
    visit(std::span(segments).subspan(first, s - first));
  }
}

// Each segment is a context of its own.
std::vector<TokenView> views_of(std::span<const Segment> segments,
                                const std::vector<Token>& tokens) {
  std::vector<TokenView> views;
  for (const Segment& segment : segments) {
    views.push_back({tokens.data() + segment.offset, segment.length, segment.circular,
                     static_cast<std::int64_t>(views.size())});
  }
  return views;
}

void tally(ObjectiveResult& result, TargetKind asked, const float* log_probs, std::uint8_t target) {
  const auto kind = static_cast<std::size_t>(asked);
  result.nll[kind] -= static_cast<double>(log_probs[target]);
  ++result.count[kind];
  result.correct[kind] += std::max_element(log_probs, log_probs + kBases) - log_probs == target;
}

// Bytes that the model takes for these, with their genome memory and their views.
std::uint64_t pass_memory(const Session& session, std::span<const Segment> batch,
                          const ScoringOptions& scoring) {
  const auto count = static_cast<std::int64_t>(batch.size());
  std::int64_t rows = 0;
  for (const Segment& segment : batch) rows += segment.length;
  return session.memory_needed(rows, count) - session.memory_needed(0, 0) +
         genome_memory_bytes(session.config(), scoring, rows, count, count, session.threads()) +
         2 * batch.size() * sizeof(TokenView);
}

void require_questions(const LossData& data) {
  if (data.objective.rows.empty()) {
    throw Error(
        ErrorKind::kInput,
        "no position was chosen: the sequences are too short, or hold too few A, C, G and T");
  }
}

}  // namespace

void KmerTally::add(const KmerBaseline::Prediction& p, std::uint8_t target) {
  for (std::size_t n = 0; n < p.size(); ++n) {
    bits[n] -= std::log2(p[n][target]);
    correct[n] += std::max_element(p[n].begin(), p[n].end()) - p[n].begin() == target;
  }
}

void cut(GenomeStore& store, std::int64_t max_tokens) {
  if (max_tokens <= 0 || store.total() <= max_tokens) return;
  while (store.records.back().offset >= max_tokens) store.records.pop_back();
  GenomeRecord& last = store.records.back();
  if (last.offset + last.length > max_tokens) {
    last.length = max_tokens - last.offset;
    last.circular = false;
  }
  store.tokens.resize(static_cast<std::size_t>(max_tokens));
}

LossData hide_bases(GenomeStore store, const MaskOptions& mask, std::uint64_t seed) {
  LossData data{std::move(store), {}, {}};
  data.hidden = data.store.tokens;
  for (std::size_t r = 0; r < data.store.records.size(); ++r) {
    const GenomeRecord& record = data.store.records[r];
    const auto tokens = std::span(data.hidden)
                            .subspan(static_cast<std::size_t>(record.offset),
                                     static_cast<std::size_t>(record.length));
    // Step 0 is none of training's: its steps count from 1.
    mask_window({seed, 0, static_cast<std::int64_t>(r)}, mask, record.offset, tokens,
                data.objective);
  }
  require_questions(data);
  return data;
}

LossData ask_every_base(GenomeStore store) {
  LossData data{std::move(store), {}, {}};
  for (std::size_t i = 0; i < data.store.tokens.size(); ++i) {
    if (!is_base(data.store.tokens[i])) continue;
    data.objective.rows.push_back(static_cast<std::int64_t>(i));
    data.objective.targets.push_back(data.store.tokens[i]);
  }
  data.objective.kinds.assign(data.objective.rows.size(), TargetKind::kMasked);
  require_questions(data);
  return data;
}

std::vector<Segment> segments_of(const GenomeStore& store, std::int64_t length) {
  std::vector<Segment> segments;
  for (const GenomeRecord& record : store.records) {
    const std::int64_t step = length == 0 ? record.length : length;
    for (std::int64_t at = 0; at < record.length; at += step) {
      const std::int64_t n = std::min(step, record.length - at);
      segments.push_back({record.offset + at, n, record.circular && n == record.length});
    }
  }
  return segments;
}

ObjectiveResult evaluate(Session& session, const LossData& data,
                         const std::vector<Segment>& segments, bool memory) {
  ObjectiveResult result;
  std::vector<std::int64_t> rows;
  std::vector<float> log_probs;
  const Objective& asked = data.objective;
  std::size_t next = 0;  // of the questions; segments and questions ascend together
  for_each_batch(segments, [&](std::span<const Segment> batch) {
    const std::size_t first = next;
    std::int64_t tokens = 0;
    rows.clear();
    for (const Segment& segment : batch) {
      const std::int64_t end = segment.offset + segment.length;
      for (; next < asked.rows.size() && asked.rows[next] < end; ++next) {
        rows.push_back(asked.rows[next] - segment.offset + tokens);
      }
      tokens += segment.length;
    }
    std::optional<Memories> memories;
    if (memory) {
      memories.emplace(
          views_of(batch, data.store.tokens), session.config().memory,
          [&session](std::int64_t tasks, const auto& work) { session.for_each(tasks, work); });
    }
    log_probs.resize(rows.size() * kBases);
    session.log_probs(views_of(batch, data.hidden), rows, log_probs.data(),
                      memories ? memories->counts(false) : RowCounts{});
    for (std::size_t i = 0; i < rows.size(); ++i) {
      tally(result, asked.kinds[first + i], log_probs.data() + i * kBases,
            asked.targets[first + i]);
    }
  });
  return result;
}

std::uint64_t evaluation_memory(const Session& session, const LossData& data,
                                const std::vector<Segment>& segments,
                                const ScoringOptions& scoring) {
  std::uint64_t most = 0;
  const std::vector<std::int64_t>& asked = data.objective.rows;
  std::size_t next = 0;
  for_each_batch(segments, [&](std::span<const Segment> batch) {
    const std::size_t first = next;
    const std::int64_t end = batch.back().offset + batch.back().length;
    while (next < asked.size() && asked[next] < end) ++next;
    // Vectors that grow by push_back may hold twice what they need.
    constexpr std::size_t kQuestion = 2 * sizeof(std::int64_t) + kBases * sizeof(float);
    most = std::max(most, pass_memory(session, batch, scoring) + (next - first) * kQuestion);
  });
  return most;
}

std::uint64_t scored_evaluation_memory(const Session& session, const std::vector<Segment>& segments,
                                       ScoringOptions scoring) {
  scoring.all_bases = true;
  std::uint64_t most = 0;
  for_each_batch(segments, [&](std::span<const Segment> batch) {
    std::int64_t rows = 0;
    for (const Segment& segment : batch) rows += segment.length;
    most = std::max(most, pass_memory(session, batch, scoring) + scoring_memory(rows, scoring));
  });
  return most;
}

RecordSummary evaluate_as_scored(Session& session, const LossData& data,
                                 const std::vector<Segment>& segments, ScoringOptions scoring) {
  scoring.all_bases = true;
  RecordSummary total;
  for_each_batch(segments, [&](std::span<const Segment> batch) {
    const std::vector<TokenView> views = views_of(batch, data.store.tokens);
    const std::vector<SequenceScores> scores = score_sequences(session, views, scoring);
    for (std::size_t s = 0; s < views.size(); ++s) {
      RecordSummary one;
      one.name = "segment";
      one.add(views[s].tokens, scores[s]);
      total += one;
    }
  });
  return total;
}

KmerTally evaluate(const KmerBaseline& baseline, const LossData& data,
                   const std::vector<Token>& tokens, const std::vector<Segment>& segments, int n,
                   std::vector<BaseProbabilities>* predictions) {
  KmerTally result;
  const Objective& asked = data.objective;
  std::size_t next = 0;
  for (const Segment& segment : segments) {
    const TokenView view{tokens.data() + segment.offset, segment.length, segment.circular, 0};
    for (; next < asked.rows.size() && asked.rows[next] < segment.offset + segment.length; ++next) {
      if (asked.kinds[next] != TargetKind::kMasked) continue;
      const auto p = baseline.predict(view, asked.rows[next] - segment.offset);
      result.add(p, asked.targets[next]);
      if (predictions == nullptr) continue;
      BaseProbabilities& kept = predictions->emplace_back();
      std::copy_n(p[static_cast<std::size_t>(n)].begin(), kBases, kept.begin());
    }
  }
  return result;
}

AdaptiveResult evaluate_adaptive(const LossData& data, const std::vector<Segment>& segments,
                                 std::vector<BaseProbabilities> predictions, ThreadPool& pool) {
  const std::vector<TokenView> views = views_of(segments, data.store.tokens);
  std::vector<AskedBase> asked;
  std::size_t next = 0;
  const Objective& all = data.objective;
  for (std::size_t s = 0; s < segments.size(); ++s) {
    const std::int64_t end = segments[s].offset + segments[s].length;
    for (; next < all.rows.size() && all.rows[next] < end; ++next) {
      if (all.kinds[next] != TargetKind::kMasked) continue;
      asked.push_back({s, all.rows[next] - segments[s].offset});
    }
  }
  return adaptive_baseline(
      views, asked, std::move(predictions),
      [&pool](std::int64_t tasks, const auto& work) { pool.run(tasks, work); });
}

}  // namespace m5
