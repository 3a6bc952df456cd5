// m5 bench loss: the loss against segment length, beside baselines of counts.
#include <algorithm>
#include <cmath>
#include <memory>
#include <numbers>
#include <optional>

#include "base/log.hpp"
#include "base/memory.hpp"
#include "base/output.hpp"
#include "m5/error.hpp"
#include "tools/bench_baseline.hpp"
#include "tools/bench_report.hpp"
#include "tools/input.hpp"
#include "tools/line_chart.hpp"
#include "tools/loss_data.hpp"
#include "tools/run_memory.hpp"

namespace m5 {
namespace {

constexpr int kLeastSide = 2;  // of the k-mer models that are reported

struct LossOptions {
  BenchOptions bench;
  std::vector<std::string> files;
  std::string lengths;
  BaselineOptions baseline;
  bool baseline_only = false;
  std::int64_t max_tokens = 0;
  std::uint64_t seed = 1;
  MaskOptions mask;
  bool as_scored = false;
  ScoringOptions scoring;
  std::string plot;
};

LossData load_data(const LossOptions& options) {
  const CommonOptions& common = options.bench.common;
  GenomeStore store =
      load_genomes(options.files, topology_of(common),
                   {.skip_empty = common.skip_empty, .allow_no_eof = common.allow_no_eof});
  if (store.records.empty()) throw Error(ErrorKind::kInput, "the files hold no sequence");
  check_circular_list(common, {&store});
  cut(store, options.max_tokens);
  return options.as_scored ? ask_every_base(std::move(store))
                           : hide_bases(std::move(store), options.mask, options.seed);
}

nlohmann::ordered_json ratio(double sum, std::int64_t count) {
  if (count == 0) return nullptr;
  return sum / static_cast<double>(count);
}

void add_model_columns(nlohmann::ordered_json& row, const ObjectiveResult& r) {
  const auto at = [](TargetKind kind) { return static_cast<std::size_t>(kind); };
  const std::size_t masked = at(TargetKind::kMasked), snp = at(TargetKind::kSubstituted),
                    kept = at(TargetKind::kKept);
  row["nats"] = ratio(r.nll[masked], r.count[masked]);
  row["bits"] = ratio(r.nll[masked] / std::numbers::ln2, r.count[masked]);
  row["masked_accuracy"] = ratio(static_cast<double>(r.correct[masked]), r.count[masked]);
  row["snp_accuracy"] = ratio(static_cast<double>(r.correct[snp]), r.count[snp]);
  row["kept_accuracy"] = ratio(static_cast<double>(r.correct[kept]), r.count[kept]);
}

void add_scored_columns(nlohmann::ordered_json& row, const RecordSummary& r) {
  row["scored_bits"] = metric_from_nll(Metric::kBits, r.nll / static_cast<double>(r.scored));
  row["scored_accuracy"] = ratio(static_cast<double>(r.correct), r.scored);
}

// same: none where the model has no view of its own.
void add_baseline_columns(nlohmann::ordered_json& row, const KmerBaseline& baseline, int n,
                          const KmerTally& truth, const std::optional<KmerTally>& same,
                          std::int64_t masked) {
  const auto side = static_cast<std::size_t>(n);
  row["kmer_n"] = n;
  row["kmer_bits"] = ratio(truth.bits[side], masked);
  row["kmer_accuracy"] = ratio(static_cast<double>(truth.correct[side]), masked);
  if (same) {
    row["kmer_bits_same_view"] = ratio(same->bits[side], masked);
    row["kmer_accuracy_same_view"] = ratio(static_cast<double>(same->correct[side]), masked);
  }
  row["kmer_by_n"] = nlohmann::ordered_json::array();
  for (int k = kLeastSide; k <= baseline.max_side(); ++k) {
    const auto i = static_cast<std::size_t>(k);
    nlohmann::ordered_json by_n = {
        {"n", k},
        {"bits", ratio(truth.bits[i], masked)},
        {"accuracy", ratio(static_cast<double>(truth.correct[i]), masked)}};
    if (same) {
      by_n["bits_same_view"] = ratio(same->bits[i], masked);
      by_n["accuracy_same_view"] = ratio(static_cast<double>(same->correct[i]), masked);
    }
    row["kmer_by_n"].push_back(std::move(by_n));
  }
}

void add_adaptive_columns(nlohmann::ordered_json& row, const AdaptiveResult& r,
                          std::int64_t masked) {
  row["adaptive_bits"] = ratio(r.bits, masked);
  row["adaptive_accuracy"] = ratio(static_cast<double>(r.correct), masked);
  row["adaptive_alpha"] = r.alpha_by_k;
}

std::string chart(const std::vector<nlohmann::ordered_json>& rows, const std::string& model) {
  std::vector<ChartLine> lines;
  for (const auto& [key, name] : {std::pair<std::string, std::string>{"bits", model},
                                  {"scored_bits", model},
                                  {"kmer_bits", "k-mer table"},
                                  {"adaptive_bits", "counts of the segment itself"}}) {
    ChartLine line{name, {}};
    for (const auto& row : rows) {
      if (!row.contains(key) || !row[key].is_number()) continue;
      line.points.emplace_back(row["segment_length"].get<double>(), row[key].get<double>());
    }
    std::sort(line.points.begin(), line.points.end());
    if (!line.points.empty()) lines.push_back(std::move(line));
  }
  return line_chart("Loss against segment length", "segment length, nt", "bits per base", lines);
}

void parse_options(CLI::App& app, LossOptions& options) {
  prepare_app(app, "bench loss",
              "Cross-entropy and accuracy of a model against segment length. Of the A/C/G/T a "
              "seeded 15 % is chosen (80 % of them masked, 10 % replaced by another base, 10 % "
              "kept), once for all lengths; nats and bits are those of masked positions. Beside "
              "them a k-mer baseline: counts of a base given its n neighbours on each side, both "
              "strands, interpolated over n, on the same masked positions; and the adaptive "
              "baseline: the counts of the segment itself on top of it, every window that contains "
              "the base left out.");
  app.add_option("FILE", options.files, "sequences to evaluate on (FASTA or FASTQ)");
  app.add_option("--lengths", options.lengths,
                 "segment lengths in nt; whole: every record is one sequence (default "
                 "1k,4k,16k,64k,196608,1M,whole; with --baseline-only whole)")
      ->option_text("SIZE[,SIZE...]");
  add_size(app, "--max-tokens", options.max_tokens,
           "evaluate on so many nt from the start of the input (default: all)", 1);
  add_repeatable(app, "--baseline-train", options.baseline.files,
                 "count the k-mer baseline on this file (repeatable)")
      ->option_text("FILE");
  app.add_option("--baseline-list", options.baseline.list, "the same for a list, one path a line")
      ->option_text("FILE");
  app.add_option("--baseline-cache", options.baseline.cache,
                 "keep the counts in this file (286 MB), and use it while the training files are "
                 "the same")
      ->option_text("FILE");
  app.add_flag("--baseline-only", options.baseline_only, "no model, the baselines alone");
  app.add_flag("--as-scored", options.as_scored,
               "ask about every base as m5 score does: every K-th base hidden in each of K passes, "
               "nothing replaced");
  app.add_option("-k,--passes", options.scoring.passes, "K of --as-scored (default 7)")
      ->option_text("INT")
      ->check(CLI::Range(1, 1000000));
  app.add_option("--plot", options.plot,
                 "draw model, k-mer table and adaptive baseline against length (SVG)")
      ->option_text("FILE");
  app.add_option("--mask-rate", options.mask.rate, "share of positions to choose (default 0.15)")
      ->option_text("SHARE");
  app.add_option("--seed", options.seed, "of the chosen positions (default 1)")
      ->option_text("INT")
      ->check(whole_number);
  add_threads(app, options.bench.common);
  add_device(app, options.bench.common);
  add_memory(app, options.bench.common);
  add_topology(app, options.bench.common);
  add_input(app, options.bench.common);
  add_bench_options(app, options.bench);
}

void describe_baseline(BenchReport& report, const std::optional<KmerBaseline>& baseline, int n,
                       bool as_scored) {
  if (!baseline) {
    report.meta["kmer_baseline"] = "none: give --baseline-train, --baseline-list or a cache";
    return;
  }
  report.meta["kmer_baseline"] =
      "counts of both strands of " + with_commas(baseline->bases()) +
      " nt; n neighbours on each side, interpolated with shorter contexts; n chosen on held-out "
      "blocks of the training files";
  report.meta["kmer_n"] = n;
  report.meta["kmer_bits_are"] =
      "all true neighbours visible: more than the model sees, the strongest form of the baseline";
  if (!as_scored)
    report.meta["kmer_bits_same_view_are"] =
        "the model's view: a masked neighbour may be any base (counts are summed over it), a "
        "substituted one is taken at its word";
  for (int k = 0; k <= baseline->max_side(); ++k) {
    report.meta["kmer_alpha"].push_back(baseline->alpha(k));
    report.meta["kmer_held_out_bits"].push_back(baseline->held_bits(k));
  }
}

void check_loss_paths(const LossOptions& options) {
  std::vector<std::string> sequences = options.files;
  for (std::string& file : baseline_files(options.baseline)) sequences.push_back(std::move(file));
  const std::string& cache = options.baseline.cache;
  check_bench_paths(options.bench, sequences, {{"--baseline-list", options.baseline.list}},
                    {{"--baseline-cache", cache}, {"--plot", options.plot}});
  if (!cache.empty() && !KmerBaseline::may_save(cache)) {
    throw Error(ErrorKind::kUsage, "--baseline-cache: " + cache +
                                       ": is no k-mer table of m5, and would be replaced by one");
  }
}

void check_contradictions(const CLI::App& app, const LossOptions& options) {
  if (options.as_scored && (app.count("--mask-rate") > 0 || app.count("--seed") > 0)) {
    throw Error(ErrorKind::kUsage,
                "--as-scored asks about every base: it takes no --mask-rate and no --seed");
  }
  if (!options.as_scored && app.count("--passes") > 0) {
    throw Error(ErrorKind::kUsage, "--passes: needs --as-scored");
  }
  if (options.baseline_only && app.count("--memory") > 0) {
    throw Error(ErrorKind::kUsage, "--memory is of a model, and --baseline-only has none");
  }
}

void describe_questions(BenchReport& report, const LossOptions& options) {
  if (options.as_scored) {
    if (!options.baseline_only) report.meta["passes"] = options.scoring.passes;
    report.meta["bits_are"] =
        "per base, of the model as in m5 score; not comparable with bits of causal models or "
        "compressed sizes";
    return;
  }
  report.meta["mask_rate"] = options.mask.rate;
  report.meta["mask_shares"] = {options.mask.masked, options.mask.substituted, options.mask.kept};
  report.meta["seed"] = options.seed;
  report.meta["bits_are"] =
      "per masked base, given the visible rest of its segment; not comparable with bits of causal "
      "models or compressed sizes";
}

// Bytes of the process while it evaluates segments of that length: with the model, or with the
// adaptive baseline, which comes after it; and all the while with the k-mer table.
std::uint64_t memory_of(const LossOptions& options, const Session* session, const LossData& data,
                        std::int64_t length, int workers) {
  const std::vector<Segment> segments = segments_of(data.store, length);
  std::int64_t longest = 0;
  for (const Segment& segment : segments) longest = std::max(longest, segment.length);
  const auto asked = static_cast<std::int64_t>(data.objective.rows.size());
  std::uint64_t most = adaptive_baseline_memory(longest, asked, workers);
  if (session != nullptr) {
    most = std::max(most, options.as_scored
                              ? scored_evaluation_memory(*session, segments, options.scoring)
                              : evaluation_memory(*session, data, segments, options.scoring));
  }
  // The report, and what the allocator keeps of the lists of one step for the next.
  constexpr std::uint64_t kRest = 3'000'000;
  return static_cast<std::uint64_t>(held_memory(workers, false)) +
         baseline_memory(options.baseline) + most + kRest;
}

std::vector<BenchColumn> columns_of(const LossOptions& options, bool with_table) {
  std::vector<BenchColumn> columns = {{"segment_length"}, {"whole"}, {"segments"}};
  const auto show = [&columns](std::initializer_list<const char*> keys) {
    for (const char* key : keys) columns.push_back({key, 4});
  };
  if (!options.baseline_only) {
    columns.push_back({"memory"});
    if (options.as_scored) {
      show({"scored_bits", "scored_accuracy"});
    } else {
      show({"nats", "bits", "masked_accuracy", "snp_accuracy", "kept_accuracy"});
    }
  }
  if (with_table) {
    columns.push_back({"kmer_n"});
    show({"kmer_bits", "kmer_accuracy"});
    if (!options.as_scored) show({"kmer_bits_same_view", "kmer_accuracy_same_view"});
  }
  show({"adaptive_bits", "adaptive_accuracy"});
  return columns;
}

}  // namespace

int bench_loss(int argc, char** argv) {
  LossOptions options;
  CLI::App app;
  parse_options(app, options);
  if (!parse_bench(app, argc, argv, options.bench)) return 0;
  check_mask_options(options.mask);
  check_contradictions(app, options);
  if (options.files.empty()) throw Error(ErrorKind::kUsage, "no sequence file given");
  if (options.lengths.empty()) {
    options.lengths = options.baseline_only ? "whole" : "1k,4k,16k,64k,196608,1M,whole";
  }
  const std::vector<std::int64_t> lengths = parse_lengths(options.lengths, true);

  check_loss_paths(options);
  // What can fail fast comes first; counting takes longest.
  Model model;
  std::unique_ptr<Session> session;
  if (!options.baseline_only) {
    model = bench_model(options.bench);
    options.scoring.memory = memory_is_on(options.bench.common, model);
    session = std::make_unique<Session>(model, session_options(options.bench.common));
  }
  const bool memory = session && options.scoring.memory;
  const LossData data = load_data(options);
  std::int64_t longest = 0;
  for (const GenomeRecord& r : data.store.records) longest = std::max(longest, r.length);
  ThreadPool pool(session                            ? session->threads()
                  : options.bench.common.threads > 0 ? options.bench.common.threads
                                                     : available_cpus());
  std::vector<float>().swap(model.parameters);  // the session has them
  for (const std::int64_t length : lengths) {
    require_memory(memory_of(options, session.get(), data, length, pool.size()),
                   "segments of " + (length == 0 ? "whole records" : with_commas(length) + " nt"));
  }
  const std::optional<KmerBaseline> baseline =
      load_baseline(options.baseline, options.bench.common, options.files);
  if (options.baseline_only && !baseline) {
    throw Error(ErrorKind::kUsage,
                "--baseline-only: needs --baseline-train, --baseline-list or --baseline-cache");
  }
  const int n = baseline ? std::max(kLeastSide, baseline->best_side()) : 0;

  BenchReport report;
  if (options.baseline_only) model.config.name = "none: baseline only";
  describe_run(report, "m5 bench" + provenance_command(argc, argv).substr(2), model);
  report.meta["device"] = session ? session->device_name() : "";
  report.meta["threads"] = pool.size();
  report.meta["tokens"] = data.store.total();
  report.meta["records"] = data.store.records.size();
  if (session) report.meta["memory"] = memory;
  describe_questions(report, options);
  describe_baseline(report, baseline, n, options.as_scored);
  report.meta["adaptive_bits_are"] =
      std::string(
          "counts of the segment itself, 0 to 6 neighbours on each side, both strands, "
          "every window with the base left out, on top of ") +
      (baseline ? "the k-mer baseline" : "equal probabilities");
  std::int64_t masked = 0;
  for (const TargetKind kind : data.objective.kinds) masked += kind == TargetKind::kMasked;

  for (const std::int64_t length : lengths) {
    const std::vector<Segment> segments = segments_of(data.store, length);
    log_detail((length == 0 ? "whole records" : with_commas(length) + " nt") + ": " +
               std::to_string(segments.size()) + " segments");
    nlohmann::ordered_json row = {{"segment_length", length == 0 ? longest : length},
                                  {"whole", length == 0 || length >= longest},
                                  {"segments", segments.size()},
                                  {"tokens", data.store.total()},
                                  {"masked", masked}};
    if (session) row["memory"] = memory;
    if (session && options.as_scored) {
      add_scored_columns(row, evaluate_as_scored(*session, data, segments, options.scoring));
    } else if (session) {
      add_model_columns(row, evaluate(*session, data, segments, memory));
    }
    std::vector<BaseProbabilities> predictions;
    if (baseline) {
      const KmerTally truth =
          evaluate(*baseline, data, data.store.tokens, segments, n, &predictions);
      std::optional<KmerTally> same;
      if (!options.as_scored) same = evaluate(*baseline, data, data.hidden, segments);
      add_baseline_columns(row, *baseline, n, truth, same, masked);
    } else {
      predictions.assign(static_cast<std::size_t>(masked), {0.25f, 0.25f, 0.25f, 0.25f});
    }
    add_adaptive_columns(row, evaluate_adaptive(data, segments, std::move(predictions), pool),
                         masked);
    report.rows.push_back(std::move(row));
  }

  if (baseline && !options.bench.json) {
    report.meta["kmer_by_n"] = report.rows.back()["kmer_by_n"];
  }
  std::unique_ptr<OutputFile> plot;
  if (!options.plot.empty()) {
    plot = std::make_unique<OutputFile>(options.plot);
    plot->write(chart(report.rows, model.config.name + (memory ? ", with its memory" : "")));
  }
  log_memory();
  report.write(options.bench.common.output, columns_of(options, baseline.has_value()),
               options.bench.json, plot.get());
  return 0;
}

}  // namespace m5
