// m5 score: per-base perplexity.
//
// Notes for the man page: with --strand both the log-probabilities of the two strands are averaged
// and normalised, and all that is written is of these. A bin's perplexity is exp(mean nll), the
// geometric mean. With regions, bins start at the region; otherwise at the record. Regions of one
// record are sorted and merged, and printed in the order of the records. --summary counts whole
// records.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <span>
#include <utility>

#include "base/log.hpp"
#include "base/memory.hpp"
#include "base/output.hpp"
#include "base/pipeline.hpp"
#include "m5/error.hpp"
#include "nn/memories.hpp"
#include "nn/scoring.hpp"
#include "sinks/score_sink.hpp"
#include "sinks/summary.hpp"
#include "tools/commands.hpp"
#include "tools/dry_run.hpp"
#include "tools/input.hpp"
#include "tools/options.hpp"
#include "tools/progress.hpp"
#include "tools/run_memory.hpp"

namespace m5 {

namespace {

// nt of long and of short records whose memories --dry-run makes: enough to leave the caches.
constexpr std::int64_t kMemorySample = 1 << 20;

struct ScoreArguments {
  CommonOptions common;
  InputArguments input;
  int passes = 7;
  std::string strand = "forward", metric = "perplexity", format;
  std::int64_t bin = 0;
  int digits = 4;
  bool unmasked = false, track_line = false;
  std::string summary, sample, chrom_sizes;
};

void declare(CLI::App& app, ScoreArguments& a) {
  add_input_arguments(app, a.input);
  add_model(app, a.common);
  add_output(app, a.common);
  app.add_option("-O,--output-fmt", a.format,
                 "bedgraph (default), bigwig, or tsv (probabilities of all four bases)")
      ->option_text("bedgraph|bigwig|tsv")
      ->check(CLI::IsMember({"bedgraph", "bigwig", "tsv"}));
  app.add_option("-k,--passes", a.passes,
                 "every K-th base is hidden in each of K passes (default 7)")
      ->option_text("INT")
      ->check(CLI::Range(1, 1000000));
  app.add_option("--strand", a.strand, "forward (default), reverse, or both (mean log-probability)")
      ->option_text("NAME")
      ->check(CLI::IsMember({"forward", "reverse", "both"}));
  app.add_option("--metric", a.metric, "perplexity (default), bits, nll (nats) or entropy (bits)")
      ->option_text("NAME")
      ->check(CLI::IsMember({"perplexity", "bits", "nll", "entropy"}));
  add_size(app, "--bin", a.bin, "one value for so many nt, from the mean nll of the scored bases",
           1);
  app.add_option("--digits", a.digits, "decimals (default 4)")
      ->option_text("INT")
      ->check(CLI::Range(0, 17));
  add_memory(app, a.common);
  app.add_flag("--unmasked", a.unmasked, "one pass, nothing hidden: fast, but not a likelihood");
  app.add_option("--summary", a.summary,
                 "counts and means of whole records: .json, or .tsv with a row a file, for MultiQC")
      ->option_text("FILE");
  app.add_option("--sample", a.sample, "sample in the .tsv (default: the name of the file)")
      ->option_text("NAME");
  app.add_option("--chrom-sizes", a.chrom_sizes, "names and lengths, for bedGraphToBigWig")
      ->option_text("FILE");
  app.add_flag("--track-line", a.track_line, "begin with a track line, for genome browsers");
  add_run(app, a.common);
}

Metric metric_of(const std::string& name) {
  if (name == "bits") return Metric::kBits;
  if (name == "nll") return Metric::kNll;
  if (name == "entropy") return Metric::kEntropy;
  return Metric::kPerplexity;
}

ScoringOptions scoring_of(const ScoreArguments& a) {
  ScoringOptions options;
  options.passes = a.passes;
  options.unmasked = a.unmasked;
  options.strand = a.strand == "both"      ? Strand::kBoth
                   : a.strand == "reverse" ? Strand::kReverse
                                           : Strand::kForward;
  options.all_bases = !a.summary.empty() || needs_all_bases(a.format, metric_of(a.metric));
  return options;
}

// Browsers draw a track that says nothing else as one dense line on a scale of their own. The
// limits leave out about one base in a hundred; means of bins lie closer together.
std::string track_line(const ScoreArguments& a, const std::string& model) {
  struct Limits {
    const char *metric, *bases, *bins;
  };
  constexpr Limits kLimits[] = {{"bits", "0:4", "1:2.5"},
                                {"nll", "0:3", "0.7:1.7"},
                                {"entropy", "0:2", "1:2"},
                                {"perplexity", "1:16", "2:5.5"}};
  std::string line = "track type=bedGraph name=\"m5 " + a.metric + "\" description=\"m5 " +
                     a.metric + ", " + model + "\" visibility=full autoScale=off";
  for (const Limits& limits : kLimits) {
    if (a.metric != limits.metric) continue;
    line += std::string(" viewLimits=") + (a.bin > 1 ? limits.bins : limits.bases);
  }
  return line;
}

std::vector<std::string> header_of(const ScoreArguments& a, const Model& model,
                                   const ScoringOptions& scoring, int argc, char** argv) {
  std::string settings = a.unmasked ? "unmasked" : "passes=" + std::to_string(a.passes);
  settings += " strand=" + a.strand;
  settings += a.format == "tsv" ? " probabilities" : " metric=" + a.metric;
  if (a.bin > 0) settings += " bin=" + std::to_string(a.bin);
  if (!model.config.memory.empty()) {
    settings += uses_memory(model.config, scoring) ? " memory=on" : " memory=off";
  }
  std::vector<std::string> lines = header_lines(a.common, "score", argc, argv, model, settings);
  if (a.unmasked && !lines.empty()) {
    lines.push_back("#note: not a likelihood: no base was hidden when it was scored");
  }
  return lines;
}

// A batch and its scores, on their way to be written.
struct Scored {
  InputBatch batch;
  std::vector<SequenceScores> scores;
};

// Rows of the summary. A file that is given twice counts twice, in one row.
std::vector<SummaryFile> summary_files(const std::vector<std::string>& input,
                                       const std::string& sample) {
  std::vector<std::string> files;
  for (const std::string& file : input) {
    if (std::find(files.begin(), files.end(), file) == files.end()) files.push_back(file);
  }
  const std::vector<std::string> samples = sample_names(files);
  std::vector<SummaryFile> rows;
  for (std::size_t i = 0; i < files.size(); ++i) {
    rows.push_back({sample.empty() ? samples[i] : sample, files[i]});
  }
  return rows;
}

// Bytes the process takes for batches that come one after the other: of the one in the model, and
// of the one before it, which is written meanwhile.
class ScoreMemory {
 public:
  // summary: counts of all records are kept.
  ScoreMemory(const Session& session, const ScoringOptions& options, bool summary)
      : session_(session), run_(session), options_(options), summary_(summary) {}
  std::uint64_t next(const InputBatch& batch) {  // once a batch
    const std::uint64_t before = written_;
    written_ = scored_memory(batch.rows, options_);
    for (const InputRecord& record : batch.records) {
      if (summary_) kept_ += summary_memory(record.name.size());
    }
    const std::uint64_t counts = genome_memory_bytes(
        session_.config(), options_, batch.rows, static_cast<std::int64_t>(batch.records.size()),
        batch.contexts, session_.threads());
    return run_.with(batch, scoring_memory(batch.rows, options_) + counts + before + kept_);
  }
  const RunMemory& run() const { return run_; }

 private:
  const Session& session_;
  const RunMemory run_;
  const ScoringOptions options_;
  const bool summary_;
  std::uint64_t written_ = 0, kept_ = 0;
};

// The last stage: rows of the regions asked for, sizes, and counts for the summary.
class ScoreWriter {
 public:
  ScoreWriter(ScoreSink& sink, RegionSelector& selector, OutputFile* sizes, ScoreSummary* summary)
      : sink_(sink), selector_(selector), sizes_(sizes), summary_(summary) {}

  void write(const Scored& scored) {
    for (std::size_t i = 0; i < scored.batch.records.size(); ++i) {
      const InputRecord& record = scored.batch.records[i];
      const SequenceScores& scores = scored.scores[i];
      const auto length = static_cast<std::int64_t>(record.tokens.size());
      std::vector<Interval> intervals = {{0, length}};
      if (!selector_.empty()) {
        intervals.clear();
        if (selector_.wants(record.name)) {
          intervals = merge_intervals(selector_.select(record.name, length));
        }
      }
      for (const Interval& interval : intervals) {
        name_file(record.file, [&] {
          sink_.write(
              {record.name, length, interval.begin, interval.end, record.tokens.data(), scores});
        });
      }
      if (sizes_ != nullptr) sizes_->write(record.name + "\t" + std::to_string(length) + "\n");
      if (summary_ == nullptr) continue;
      const std::vector<SummaryFile>& files = summary_->files;
      while (files[file_].path != record.file) {
        file_ = (file_ + 1) % files.size();  // they come in this order, but one may come again
      }
      RecordSummary& row = summary_->records.emplace_back();
      row.file = file_;
      row.name = record.name;
      row.circular = record.circular;
      row.bases = length;
      row.n = record.counts.n;
      row.other = record.counts.ambiguous;
      name_file(record.file, [&] { row.add(record.tokens.data(), scores); });
    }
    sink_.flush();
  }

 private:
  ScoreSink& sink_;
  RegionSelector& selector_;
  OutputFile* sizes_;      // null: not asked for
  ScoreSummary* summary_;  // null: not asked for
  std::size_t file_ = 0;   // of the summary, that the last record was of
};

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

int dry_run(const ScoreArguments& a, BatchReader& reader, Session& session,
            const ScoringOptions& options, ScoreMemory& memory) {
  const bool with_memory = uses_memory(session.config(), options);
  DryRun plan(a.common, session, with_memory ? kMemorySample : 0);
  const int strands = options.strand == Strand::kBoth ? 2 : 1;
  for (InputBatch batch; reader.next(batch);) {
    plan.add(batch, memory.next(batch), strands * working_passes(batch.views, options));
  }
  plan.print(
      [&](std::span<const TokenView> sequences) { one_pass(session, options, sequences); },
      [&](std::span<const TokenView> sequences) { ask_memories(session, strands, sequences); });
  return 0;
}

}  // namespace

int cmd_score(int argc, char** argv) {
  ScoreArguments a;
  CLI::App app;
  prepare_app(app, "score", "Per-base perplexity of sequences as bedGraph, or a table.");
  declare(app, a);
  if (!parse_command_line(app, argc, argv)) return 0;
  check_common(a.common, "score");
  if (a.format.empty()) a.format = score_format_of(a.common.output);
  if (a.format == "tsv" && app.count("--metric") > 0) {
    throw Error(ErrorKind::kUsage, "--metric has no meaning with -O tsv, which has probabilities");
  }
  if (a.track_line && a.format != "bedgraph") {
    throw Error(ErrorKind::kUsage, "--track-line is a line of bedGraph");
  }
  if (a.unmasked && app.count("--passes") > 0) {
    throw Error(ErrorKind::kUsage, "--unmasked is one pass: it takes no --passes");
  }
  if (!a.summary.empty()) check_summary_path(a.summary);
  if (!a.sample.empty() && !a.summary.ends_with(".tsv")) {
    throw Error(ErrorKind::kUsage,
                "--sample names the row of --summary FILE.tsv, which is not there");
  }
  if (has_bgzf_suffix(a.chrom_sizes)) {
    throw Error(ErrorKind::kUsage,
                "--chrom-sizes: " + a.chrom_sizes + ": is written as plain text");
  }
  InputPlan plan =
      open_input(a.input, a.common, {{"--summary", a.summary}, {"--chrom-sizes", a.chrom_sizes}});
  if (!a.sample.empty() && plan.files.size() > 1) {
    throw Error(ErrorKind::kUsage,
                "--sample is for one file, and there are " + std::to_string(plan.files.size()));
  }
  RegionSelector selector(std::move(plan.regions));
  if (!selector.empty()) check_regions(selector, plan.files, a.common);
  Model model = open_model(a.common);
  ScoringOptions scoring = scoring_of(a);
  scoring.memory = memory_is_on(a.common, model);
  Session session(model, session_options(a.common));
  std::vector<float>().swap(model.parameters);  // the session has them
  ScoreMemory memory(session, scoring, !a.summary.empty());
  std::function<bool(const std::string&)> keep;
  // A summary and chromosome sizes are of all records, so nothing is left out for them.
  if (!selector.empty() && a.summary.empty() && a.chrom_sizes.empty()) {
    keep = [&selector](const std::string& name) { return selector.wants(name); };
  }
  Pipeline<InputBatch, Scored> pipeline;
  BatchReader reader(plan.files, a.common, batch_limits(session), keep, pipeline.stop_token(),
                     [&](const std::string& what, std::int64_t rows) {
                       if (!a.common.dry_run) memory.run().check(what, rows);
                     });
  if (a.common.dry_run) return dry_run(a, reader, session, scoring, memory);

  ScoreSinkOptions sink_options;
  sink_options.path = a.common.output;
  sink_options.metric = metric_of(a.metric);
  sink_options.bin = a.bin;
  sink_options.digits = a.digits;
  sink_options.header = header_of(a, model, scoring, argc, argv);
  if (a.track_line) {
    sink_options.track_line = track_line(a, model.config.name);
  }
  const std::unique_ptr<ScoreSink> sink = make_score_sink(a.format, sink_options);
  std::unique_ptr<OutputFile> sizes;
  if (!a.chrom_sizes.empty()) sizes = std::make_unique<OutputFile>(a.chrom_sizes);
  std::unique_ptr<OutputFile> summary_file;
  if (!a.summary.empty()) summary_file = std::make_unique<OutputFile>(a.summary);

  ScoreSummary summary;
  summary.files = summary_files(plan.files, a.sample);
  summary.model_name = model.config.name;
  summary.model_sha256 = model.sha256;
  summary.passes = a.unmasked ? 0 : a.passes;
  summary.memory = uses_memory(model.config, scoring);
  summary.strand = a.strand;
  summary.context = a.common.context;
  summary.precision = a.common.precision;

  Progress progress("score", "nt");
  double scored_rows = 0;
  ScoreWriter writer(*sink, selector, sizes.get(), a.summary.empty() ? nullptr : &summary);
  const auto compute = [&](InputBatch batch) {
    require_memory(memory.next(batch), batch_name(batch));
    std::vector<SequenceScores> scores;
    std::int64_t remainder = 0;
    try {
      score_sequences(session, batch.views, scoring, scores, [&](std::int64_t rows) {
        pipeline.check();
        // Counted in nt of the input: a base passes through the model several times.
        remainder += rows;
        progress.add(remainder / scoring.forward_passes());
        remainder %= scoring.forward_passes();
      });
    } catch (const NotFinite& error) {
      const InputRecord& record = batch.records[error.sequence];
      throw Error(ErrorKind::kNumeric, record.file + ": record '" + record.name + "': position " +
                                           std::to_string(error.position + 1) +
                                           ": the model gives a value that is not finite");
    }
    scored_rows += static_cast<double>(batch.rows);
    return Scored{std::move(batch), std::move(scores)};
  };
  pipeline.run([&](InputBatch& batch) { return reader.next(batch); }, compute,
               [&](const Scored& scored) { writer.write(scored); });
  selector.finish();
  std::vector<OutputFile*> files = sink->finish();
  if (sizes) files.push_back(sizes.get());
  if (summary_file) {
    write_summary(summary, *summary_file);
    files.push_back(summary_file.get());
  }
  commit_all(files);
  log_memory();
  log_detail("scored " + with_commas(std::llround(scored_rows)) + " nt");
  return 0;
}

}  // namespace m5
