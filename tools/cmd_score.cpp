// m5 score: per-base perplexity.
//
// Notes for the man page: with --strand both the log-probabilities of the two strands are averaged
// and normalised, and all that is written is of these. A bin's perplexity is exp(mean nll), the
// geometric mean. With regions, bins start at the region; otherwise at the record. Regions of one
// record are sorted and merged, and printed in the order of the records. --summary counts whole
// records.
#include <algorithm>
#include <cmath>
#include <utility>

#include "base/log.hpp"
#include "base/memory.hpp"
#include "base/output.hpp"
#include "base/pipeline.hpp"
#include "m5/error.hpp"
#include "nn/scoring.hpp"
#include "sinks/score_sink.hpp"
#include "sinks/summary.hpp"
#include "sinks/tabix.hpp"
#include "tools/commands.hpp"
#include "tools/input.hpp"
#include "tools/options.hpp"
#include "tools/progress.hpp"
#include "tools/region_windows.hpp"
#include "tools/score_stages.hpp"

namespace m5 {

namespace {

struct ScoreArguments {
  CommonOptions common;
  InputArguments input;
  int passes = 7;
  std::string strand = "forward", metric = "perplexity", format;
  UnitChoice units;                  // per: "window", "feature"; empty: bases, or bins
  std::int64_t bin = 0, flank = -1;  // -1: none, the record is the context
  int digits = 4;
  bool unmasked = false, track_line = false;
  std::string summary, sample, chrom_sizes, index;
};

void declare(CLI::App& app, ScoreArguments& a) {
  add_input_arguments(app, a.input);
  add_model(app, a.common);
  add_output(app, a.common);
  app.add_option("-O,--output-fmt", a.format,
                 "bedgraph (default), bigwig, or tsv or npz (probabilities of all four bases)")
      ->option_text("bedgraph|bigwig|tsv|npz")
      ->check(CLI::IsMember({"bedgraph", "bigwig", "tsv", "npz"}));
  add_size(app, "--flank", a.flank,
           "compute regions with so many nt on either side, not within their records");
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
  a.units.per.clear();
  app.add_option(
         "--per", a.units.per,
         "a table instead: a row a window or feature, with its bits and how it stands among "
         "windows of its length")
      ->option_text("window|feature")
      ->check(CLI::IsMember({"window", "feature"}));
  add_unit_options(app, a.units);
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
  add_write_index(app, a.index);
  add_run(app, a.common);
}

bool has_probabilities(const std::string& format) { return format == "tsv" || format == "npz"; }

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
  options.all_bases =
      !a.summary.empty() || (a.units.per.empty() && needs_all_bases(a.format, metric_of(a.metric)));
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
  settings += !a.units.per.empty()          ? " " + unit_settings(a.units)
              : has_probabilities(a.format) ? " probabilities"
                                            : " metric=" + a.metric;
  if (a.flank >= 0) settings += " flank=" + std::to_string(a.flank);
  if (a.bin > 0) settings += " bin=" + std::to_string(a.bin);
  if (!model.config.memory.empty()) {
    settings += uses_memory(model.config, scoring) ? " memory=on" : " memory=off";
  }
  CommonOptions common = a.common;
  if (a.flank >= 0) common.context = "window";
  std::vector<std::string> lines = header_lines(common, "score", argc, argv, model, settings);
  if (a.unmasked && !lines.empty()) {
    lines.push_back("#note: not a likelihood: no base was hidden when it was scored");
  }
  if (!a.units.per.empty() && !lines.empty()) {
    lines.push_back("#note: percentile and z_score: among windows of the same length of the file");
  }
  if (a.flank >= 0 && !lines.empty()) {
    lines.push_back(
        "#note: each region was computed within a window of up to " + std::to_string(a.flank) +
        " nt on either side of it, not its whole record" +
        (uses_memory(model.config, scoring) ? "; the genome memory is of the record" : ""));
  }
  return lines;
}

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

// Options beside --per. The format becomes that of the table.
void check_table(const CLI::App& app, ScoreArguments& a) {
  if (a.format.empty() && !is_stream(a.common.output)) a.format = score_format_of(a.common.output);
  if (!a.format.empty() && a.format != "tsv") {
    throw Error(ErrorKind::kUsage,
                "--per " + a.units.per + " writes a table: -o FILE.tsv (also .tsv.gz), or -O tsv");
  }
  a.format = "tsv";
  for (const char* option : {"--bin", "--flank", "--metric", "--track-line"}) {
    if (app.count(option) == 0) continue;
    throw Error(ErrorKind::kUsage, std::string(option) + " does not go with --per " + a.units.per);
  }
}

void check(const CLI::App& app, ScoreArguments& a) {
  check_unit_options(app, a.common, a.units);
  if (!a.units.per.empty()) {
    check_table(app, a);
  } else if (a.format.empty()) {
    a.format = score_format_of(a.common.output);
  }
  if (has_probabilities(a.format) && app.count("--metric") > 0) {
    throw Error(ErrorKind::kUsage,
                "--metric has no meaning with -O " + a.format + ", which has probabilities");
  }
  if (a.format == "npz" && app.count("--digits") > 0) {
    throw Error(ErrorKind::kUsage, "--digits has no meaning with -O npz, which has float32");
  }
  if (a.flank >= 0) {
    for (const char* whole : {"--summary", "--chrom-sizes"}) {
      if (app.count(whole) == 0) continue;
      throw Error(ErrorKind::kUsage,
                  std::string(whole) + " is of whole records, and --flank computes regions only");
    }
    if (a.common.context == "file") {
      throw Error(ErrorKind::kUsage, "--flank and --context file are two contexts: choose one");
    }
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
}

}  // namespace

int cmd_score(int argc, char** argv) {
  ScoreArguments a;
  CLI::App app;
  prepare_app(app, "score", "Per-base perplexity of sequences as bedGraph, or a table.");
  declare(app, a);
  if (!parse_command_line(app, argc, argv)) return 0;
  check_common(a.common, "score");
  check(app, a);
  std::string index;  // its file
  if (!a.index.empty()) {
    if ((a.format != "bedgraph" && a.format != "tsv") || !a.units.per.empty()) {
      throw Error(ErrorKind::kUsage, "--write-index is for bedGraph and tsv of bases");
    }
    index = index_path(a.common.output, a.index);
  }
  InputPlan plan = open_input(
      a.input, a.common,
      {{"--summary", a.summary}, {"--chrom-sizes", a.chrom_sizes}, {"--write-index", index}},
      {{"--features", a.units.features}});
  if (!a.sample.empty() && plan.files.size() > 1) {
    throw Error(ErrorKind::kUsage,
                "--sample is for one file, and there are " + std::to_string(plan.files.size()));
  }
  if (a.units.per == "feature" && !plan.regions.empty()) {
    throw Error(ErrorKind::kUsage, "--per feature takes no regions: the features are the regions");
  }
  if (a.flank >= 0 && plan.regions.empty()) {
    throw Error(ErrorKind::kUsage, "--flank goes with regions (-r, -R, or behind the files)");
  }
  RegionSelector selector(std::move(plan.regions));
  if (!selector.empty()) check_regions(selector, plan.files, a.common);
  FeatureTable features(a.units.features, a.units.feature_options);
  std::unique_ptr<ScoreTable> table;
  if (!a.units.per.empty()) table = std::make_unique<ScoreTable>(a.units, features, selector);
  std::function<bool(const std::string&)> keep;
  // A summary, chromosome sizes and percentiles are of all records: nothing is left out for them.
  if (!selector.empty() && a.summary.empty() && a.chrom_sizes.empty() && !table) {
    keep = [&selector](const std::string& name) { return selector.wants(name); };
  }
  a.common.unique_names = !table;  // the table has a column for the file
  check_names(plan.files, a.common, keep);
  a.common.circular_names.insert(features.circular().begin(), features.circular().end());
  if (a.units.per == "feature") check_features(features, plan.files, a.common);
  Model model = open_model(a.common);
  ScoringOptions scoring = scoring_of(a);
  scoring.memory = memory_is_on(a.common, model);
  Session session(model, session_options(a.common));
  std::vector<float>().swap(model.parameters);  // the session has them
  ScoreMemory memory(session, scoring, [&](const InputRecord& record) {
    ScoreMemory::Kept kept;
    if (!a.summary.empty()) kept.run += summary_memory(record.label.size());
    if (table) {
      kept.file = table->memory(record);
    } else {
      kept.run += score_interval_memory(a.format, record.label.size());
    }
    return kept;
  });
  Pipeline<InputBatch, Scored> pipeline;
  const BatchLimits limits = batch_limits(session);
  BatchReader reader(plan.files, a.common, limits, keep, pipeline.stop_token(),
                     [&](const std::string& what, std::int64_t rows) {
                       if (!a.common.dry_run && a.flank < 0) memory.run().check(what, rows);
                     });
  WindowReader windows(reader, selector, a.flank, limits, uses_memory(model.config, scoring));
  const auto next = [&](InputBatch& batch) {
    return a.flank < 0 ? reader.next(batch) : windows.next(batch);
  };
  if (a.common.dry_run) {
    score_dry_run(next, a.common, session, scoring, memory);
    return 0;
  }

  ScoreSinkOptions sink_options;
  sink_options.path = a.common.output;
  sink_options.metric = metric_of(a.metric);
  sink_options.bin = a.bin;
  sink_options.digits = a.digits;
  sink_options.index = a.index;
  sink_options.header = header_of(a, model, scoring, argc, argv);
  if (a.track_line) {
    sink_options.track_line = track_line(a, model.config.name);
  }
  std::unique_ptr<ScoreSink> sink;
  if (table) {
    table->open({a.common.output, a.digits, sink_options.header, plan.files});
  } else {
    sink = make_score_sink(a.format, sink_options);
  }
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
  Scorer scorer(session, scoring);
  ScoreWriter writer(sink.get(), table.get(), selector, sizes.get(),
                     a.summary.empty() ? nullptr : &summary);
  const auto compute = [&](InputBatch batch) {
    require_memory(memory.next(batch), batch_name(batch));
    scored_rows += static_cast<double>(batch.rows);
    std::int64_t remainder = 0;
    return scorer.score(std::move(batch), [&](std::int64_t rows) {
      pipeline.check();
      // Counted in nt of the input: a base passes through the model several times.
      remainder += rows;
      progress.add(remainder / scoring.forward_passes());
      remainder %= scoring.forward_passes();
    });
  };
  pipeline.run(next, compute, [&](const Scored& scored) { writer.write(scored); });
  selector.finish();
  std::vector<OutputFile*> files = table ? table->finish() : sink->finish();
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
