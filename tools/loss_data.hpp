// What `m5 bench loss` asks of models and baselines, and how they answer.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/thread_pool.hpp"
#include "data/adaptive_baseline.hpp"
#include "data/genome_store.hpp"
#include "data/kmer_baseline.hpp"
#include "m5/session.hpp"
#include "nn/objective.hpp"
#include "nn/scoring.hpp"
#include "sinks/summary.hpp"
#include "train/masking.hpp"

namespace m5 {

// The sequences, and the same with the chosen positions hidden: once for all segment lengths, so
// that every length is asked about the same positions.
struct LossData {
  GenomeStore store;
  std::vector<Token> hidden;  // GenomeStore::tokens, masked; empty where every base is asked
  Objective objective;        // rows: index into the tokens of the store
};

struct Segment {
  std::int64_t offset = 0, length = 0;  // in the store
  bool circular = false;
};

// Bits and hits of the k-mer models on masked positions, by n.
struct KmerTally {
  std::array<double, KmerBaseline::kMaxSide + 1> bits{};
  std::array<std::int64_t, KmerBaseline::kMaxSide + 1> correct{};

  void add(const KmerBaseline::Prediction& p, std::uint8_t target);
};

constexpr std::int64_t kLossBatchTokens = 262144;  // of segments that go through the model together
constexpr std::int64_t kLossBatchSegments = 128;

// Cuts the store to its first max_tokens nt (0: all of it).
void cut(GenomeStore& store, std::int64_t max_tokens);
// A chosen share of the bases; both throw Error(kInput) where there is none to ask about.
LossData hide_bases(GenomeStore store, const MaskOptions& mask, std::uint64_t seed);
LossData ask_every_base(GenomeStore store);

// Every record cut into consecutive segments; length 0: whole records.
std::vector<Segment> segments_of(const GenomeStore& store, std::int64_t length);

// The model, each segment a context of its own. memory: with the genome memory of each segment, of
// its true bases.
ObjectiveResult evaluate(Session& session, const LossData& data,
                         const std::vector<Segment>& segments, bool memory);
// Bytes that it takes.
std::uint64_t evaluation_memory(const Session& session, const LossData& data,
                                const std::vector<Segment>& segments,
                                const ScoringOptions& scoring);
// The model as `m5 score` asks it and its summary counts it.
RecordSummary evaluate_as_scored(Session& session, const LossData& data,
                                 const std::vector<Segment>& segments, ScoringOptions scoring);
// Bytes that it takes.
std::uint64_t scored_evaluation_memory(const Session& session, const std::vector<Segment>& segments,
                                       ScoringOptions scoring);
// tokens: what the baseline sees, the store's or the hidden ones. predictions, when given: those of
// n neighbours, of every masked position.
KmerTally evaluate(const KmerBaseline& baseline, const LossData& data,
                   const std::vector<Token>& tokens, const std::vector<Segment>& segments,
                   int n = 0, std::vector<BaseProbabilities>* predictions = nullptr);
// predictions: to start from, of every masked position.
AdaptiveResult evaluate_adaptive(const LossData& data, const std::vector<Segment>& segments,
                                 std::vector<BaseProbabilities> predictions, ThreadPool& pool);

}  // namespace m5
