// The stages of m5 score: the model, with the memory it takes, and the writing.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "base/output.hpp"
#include "nn/memories.hpp"
#include "nn/scoring.hpp"
#include "sinks/score_sink.hpp"
#include "sinks/summary.hpp"
#include "tools/dry_run.hpp"
#include "tools/input.hpp"
#include "tools/run_memory.hpp"
#include "tools/score_table.hpp"

namespace m5 {

// Bytes the process takes for batches that come one after the other: of the one in the model, and
// of the one before it, which is written meanwhile.
class ScoreMemory {
 public:
  // Bytes that stay of a record (or window).
  struct Kept {
    std::uint64_t run = 0, file = 0;  // until the end of the run, of its file
  };
  ScoreMemory(const Session& session, const ScoringOptions& options,
              std::function<Kept(const InputRecord&)> kept)
      : session_(session), run_(session), options_(options), kept_of_(std::move(kept)) {}
  std::uint64_t next(const InputBatch& batch);  // once a batch
  const RunMemory& run() const { return run_; }

 private:
  const Session& session_;
  const RunMemory run_;
  const ScoringOptions options_;
  const std::function<Kept(const InputRecord&)> kept_of_;
  std::uint64_t written_ = 0, kept_ = 0;
  std::int64_t file_ = -1;
  std::uint64_t kept_of_file_ = 0, kept_before_ = 0;  // before_: of the file before, still written
};

// A batch and its scores, on their way to be written.
struct Scored {
  InputBatch batch;
  std::vector<SequenceScores> scores;
};

class Scorer {
 public:
  Scorer(Session& session, const ScoringOptions& options) : session_(session), options_(options) {}
  // Throws as score_sequences, and Error(kNumeric) naming record and position.
  Scored score(InputBatch batch, const std::function<void(std::int64_t rows)>& on_rows);

 private:
  Session& session_;
  const ScoringOptions options_;
  std::shared_ptr<const InputBatch> whole_;  // what memories_ are of: of windows alone
  std::optional<Memories> memories_;
};

// The last stage: rows of the regions asked for, sizes, and counts for the summary.
class ScoreWriter {
 public:
  // Of sink and table one is null, of sizes and summary what is not asked for.
  ScoreWriter(ScoreSink* sink, ScoreTable* table, RegionSelector& selector, OutputFile* sizes,
              ScoreSummary* summary)
      : sink_(sink), table_(table), selector_(selector), sizes_(sizes), summary_(summary) {}
  void write(const Scored& scored);

 private:
  void write_record(const InputRecord& record, const SequenceScores& scores);
  void add_to_summary(const InputRecord& record, const SequenceScores& scores);

  ScoreSink* sink_;
  ScoreTable* table_;
  RegionSelector& selector_;
  OutputFile* sizes_;
  ScoreSummary* summary_;
  std::size_t file_ = 0;  // of the summary, that the last record was of
};

// Reads all batches, and prints what they will take. next: false after the last one.
void score_dry_run(const std::function<bool(InputBatch& batch)>& next, const CommonOptions& common,
                   Session& session, const ScoringOptions& options, ScoreMemory& memory);

}  // namespace m5
