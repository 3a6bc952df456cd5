#include "tools/score_stages.hpp"

#include <algorithm>
#include <numeric>
#include <span>
#include <utility>

#include "m5/error.hpp"

namespace m5 {

std::uint64_t ScoreMemory::next(const InputBatch& batch) {
  const std::uint64_t before = written_;
  written_ = scored_memory(batch.rows, options_);
  for (const InputRecord& record : batch.records) {
    const Kept kept = kept_of_(record);
    kept_ += kept.run;
    if (record.file_index != file_) kept_before_ = std::exchange(kept_of_file_, 0);
    file_ = record.file_index;
    kept_of_file_ += kept.file;
  }
  const InputBatch& whole = batch.whole ? *batch.whole : batch;
  std::uint64_t more =
      scoring_memory(batch.rows, options_) + before + kept_ + kept_before_ + kept_of_file_;
  more += genome_memory_bytes(session_.config(), options_, whole.rows,
                              static_cast<std::int64_t>(whole.records.size()), whole.contexts,
                              session_.threads());
  // The records of the windows, and the next ones: tokens, and letters of one.
  if (batch.whole) more += 3 * static_cast<std::uint64_t>(whole.rows);
  return run_.with(batch, more);
}

Scored Scorer::score(InputBatch batch, const std::function<void(std::int64_t rows)>& on_rows) {
  Scored result{std::move(batch), {}};
  const InputBatch& in = result.batch;
  const bool with_memory = uses_memory(session_.config(), options_);
  StrandCounts counts;
  if (in.whole && with_memory) {
    if (whole_ != in.whole) {
      memories_.reset();
      whole_ = in.whole;
      memories_.emplace(
          whole_->views, session_.config().memory,
          [this](std::int64_t tasks, const std::function<void(int, std::int64_t)>& work) {
            session_.for_each(tasks, work);
          });
    }
    std::vector<Memories::Window> windows;
    for (std::size_t i = 0; i < in.windows.size(); ++i) {
      windows.push_back({in.windows[i].record, in.windows[i].first, in.views[i].length});
    }
    counts = [this, windows = std::move(windows)](bool reverse) {
      return memories_->counts(reverse, windows);
    };
  }
  try {
    result.scores = score_with_counts(session_, in.views, options_, on_rows, counts);
  } catch (const NotFinite& error) {
    const InputRecord& record = in.records[error.sequence];
    std::int64_t position = error.position;
    if (!in.windows.empty()) {
      const RegionWindow& window = in.windows[error.sequence];
      position = (window.first + position + window.length) % window.length;
    }
    throw Error(ErrorKind::kNumeric, record.file + ": record '" + record.name + "': position " +
                                         std::to_string(position + 1) +
                                         ": the model gives a value that is not finite");
  }
  return result;
}

void ScoreWriter::write(const Scored& scored) {
  const InputBatch& batch = scored.batch;
  for (std::size_t i = 0; i < batch.records.size(); ++i) {
    const InputRecord& record = batch.records[i];
    if (batch.windows.empty()) {
      write_record(record, scored.scores[i]);
      continue;
    }
    const RegionWindow& window = batch.windows[i];
    name_file(record.file, [&] {
      sink_->write({record.label, window.length, window.region.begin, window.region.end,
                    record.tokens.data(), scored.scores[i], window.first});
    });
  }
  if (sink_ != nullptr) sink_->flush();
}

void ScoreWriter::write_record(const InputRecord& record, const SequenceScores& scores) {
  const auto length = static_cast<std::int64_t>(record.tokens.size());
  std::vector<Interval> intervals = {{0, length}};
  if (table_ != nullptr) {
    intervals.clear();
    name_file(record.file, [&] { table_->add(record, scores); });
  } else if (!selector_.empty()) {
    intervals.clear();
    if (selector_.wants(record.name)) {
      intervals = merge_intervals(selector_.select(record.name, length));
    }
  }
  for (const Interval& interval : intervals) {
    name_file(record.file, [&] {
      sink_->write(
          {record.label, length, interval.begin, interval.end, record.tokens.data(), scores});
    });
  }
  if (sizes_ != nullptr) sizes_->write(record.label + "\t" + std::to_string(length) + "\n");
  if (summary_ != nullptr) add_to_summary(record, scores);
}

void ScoreWriter::add_to_summary(const InputRecord& record, const SequenceScores& scores) {
  const std::vector<SummaryFile>& files = summary_->files;
  while (files[file_].path != record.file) {
    file_ = (file_ + 1) % files.size();  // they come in this order, but one may come again
  }
  RecordSummary& row = summary_->records.emplace_back();
  row.file = file_;
  row.name = record.label;
  row.circular = record.circular;
  row.bases = static_cast<std::int64_t>(record.tokens.size());
  row.n = record.counts.n;
  row.other = record.counts.ambiguous;
  name_file(record.file, [&] { row.add(record.tokens.data(), scores); });
}

namespace {

// nt of long and of short records whose memories --dry-run makes: enough to leave the caches.
constexpr std::int64_t kMemorySample = 1 << 20;

// What the model does in a pass of score_sequences; with a memory, beside the asking of it.
void one_pass(Session& session, const ScoringOptions& options,
              std::span<const TokenView> sequences) {
  std::vector<std::int64_t> rows;
  std::int64_t first = 0;
  for (const TokenView& view : sequences) {
    for (std::int64_t i = 0; i < view.length; i += options.unmasked ? 1 : options.passes) {
      rows.push_back(first + i);
    }
    first += view.length;
  }
  RowCounts counts;
  if (uses_memory(session.config(), options)) {
    const std::size_t width = session.config().memory.orders.size() * kBases;
    counts = [width](std::span<const std::int64_t> asked, std::uint32_t* out) {
      std::fill_n(out, asked.size() * width, 0u);
    };
  }
  std::vector<float> log_probs(rows.size() * kBases);
  session.log_probs(sequences, rows, log_probs.data(), counts);
}

// Makes the memories, and asks them about every base once a strand.
void ask_memories(Session& session, int strands, std::span<const TokenView> sequences) {
  const auto parallel = [&session](std::int64_t tasks, const auto& work) {
    session.for_each(tasks, work);
  };
  const MemoryConfig& config = session.config().memory;
  const Memories memories(sequences, config, parallel);
  std::int64_t total = 0;
  for (const TokenView& view : sequences) total += view.length;
  constexpr std::int64_t kTask = 1024;  // rows
  parallel(strands * ((total + kTask - 1) / kTask), [&](int, std::int64_t task) {
    const std::int64_t first = task / strands * kTask;
    std::vector<std::int64_t> rows(static_cast<std::size_t>(std::min(kTask, total - first)));
    std::iota(rows.begin(), rows.end(), first);
    std::vector<std::uint32_t> out(rows.size() * config.orders.size() * kBases);
    memories.counts(task % strands == 1)(rows, out.data());
  });
}

}  // namespace

void score_dry_run(const std::function<bool(InputBatch& batch)>& next, const CommonOptions& common,
                   Session& session, const ScoringOptions& options, ScoreMemory& memory) {
  const bool with_memory = uses_memory(session.config(), options);
  DryRun plan(common, session, with_memory ? kMemorySample : 0);
  const int strands = options.strand == Strand::kBoth ? 2 : 1;
  std::shared_ptr<const InputBatch> whole;
  for (InputBatch batch; next(batch);) {
    plan.add(batch, memory.next(batch), strands * working_passes(batch.views, options));
    if (!batch.whole) {
      plan.add_once(batch);
    } else if (whole != batch.whole) {
      whole = batch.whole;
      plan.add_once(*whole);
    }
  }
  plan.print(
      [&](std::span<const TokenView> sequences) { one_pass(session, options, sequences); },
      [&](std::span<const TokenView> sequences) { ask_memories(session, strands, sequences); });
}

}  // namespace m5
