// m5 bench loss: the loss against segment length, beside the two-sided k-mer baseline.
#include <algorithm>
#include <cmath>
#include <memory>
#include <numbers>
#include <optional>

#include "base/log.hpp"
#include "data/genome_store.hpp"
#include "m5/error.hpp"
#include "tools/bench_baseline.hpp"
#include "tools/bench_report.hpp"
#include "train/masking.hpp"

namespace m5 {
namespace {

constexpr std::int64_t kBatchTokens = 262144;  // of segments that go through the model together
constexpr std::int64_t kBatchSegments = 128;
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
};

// The sequences, and the same with the chosen positions hidden: once for all segment lengths, so
// that every length is asked about the same positions.
struct Data {
  GenomeStore store;
  std::vector<Token> hidden;  // GenomeStore::tokens, masked
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

  void add(const KmerBaseline::Prediction& p, std::uint8_t target) {
    for (std::size_t n = 0; n < p.size(); ++n) {
      bits[n] -= std::log2(p[n][target]);
      correct[n] += std::max_element(p[n].begin(), p[n].end()) - p[n].begin() == target;
    }
  }
};

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

Data load_data(const LossOptions& options) {
  const CommonOptions& common = options.bench.common;
  Data data;
  data.store = load_genomes(options.files,
                            common.circular ? Topology::kCircular
                            : common.linear ? Topology::kLinear
                                            : Topology::kFromHeader,
                            {.skip_empty = common.skip_empty, .allow_no_eof = common.allow_no_eof});
  if (data.store.records.empty()) throw Error(ErrorKind::kInput, "the files hold no sequence");
  cut(data.store, options.max_tokens);
  data.hidden = data.store.tokens;
  for (std::size_t r = 0; r < data.store.records.size(); ++r) {
    const GenomeRecord& record = data.store.records[r];
    const auto tokens = std::span(data.hidden)
                            .subspan(static_cast<std::size_t>(record.offset),
                                     static_cast<std::size_t>(record.length));
    // Step 0 is none of training's: its steps count from 1.
    mask_window({options.seed, 0, static_cast<std::int64_t>(r)}, options.mask, record.offset,
                tokens, data.objective);
  }
  if (data.objective.rows.empty()) {
    throw Error(
        ErrorKind::kInput,
        "no position was chosen: the sequences are too short, or hold too few A, C, G and T");
  }
  return data;
}

// Every record cut into consecutive segments; length 0: whole records.
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

ObjectiveResult evaluate(Session& session, const Data& data, const std::vector<Segment>& segments) {
  ObjectiveResult result;
  std::vector<TokenView> batch;
  std::vector<std::int64_t> rows;
  std::vector<float> log_probs;
  std::size_t asked = 0;  // objective entries done; segments and entries ascend together
  for (std::size_t s = 0; s < segments.size();) {
    batch.clear();
    rows.clear();
    std::int64_t tokens = 0;
    const std::size_t first = asked;
    while (s < segments.size() && static_cast<std::int64_t>(batch.size()) < kBatchSegments &&
           (batch.empty() || tokens + segments[s].length <= kBatchTokens)) {
      const Segment& segment = segments[s++];
      batch.push_back({data.hidden.data() + segment.offset, segment.length, segment.circular,
                       static_cast<std::int64_t>(batch.size())});
      for (; asked < data.objective.rows.size() &&
             data.objective.rows[asked] < segment.offset + segment.length;
           ++asked) {
        rows.push_back(data.objective.rows[asked] - segment.offset + tokens);
      }
      tokens += segment.length;
    }
    log_probs.resize(rows.size() * kBases);
    session.log_probs(batch, rows, log_probs.data());
    for (std::size_t i = 0; i < rows.size(); ++i) {
      const float* p = log_probs.data() + i * kBases;
      const std::uint8_t target = data.objective.targets[first + i];
      const auto kind = static_cast<std::size_t>(data.objective.kinds[first + i]);
      result.nll[kind] -= static_cast<double>(p[target]);
      ++result.count[kind];
      result.correct[kind] += std::max_element(p, p + kBases) - p == target;
    }
  }
  return result;
}

// tokens: what the baseline sees, the store's or the hidden ones.
KmerTally evaluate(const KmerBaseline& baseline, const Data& data, const std::vector<Token>& tokens,
                   const std::vector<Segment>& segments) {
  KmerTally tally;
  std::size_t asked = 0;
  for (const Segment& segment : segments) {
    const TokenView view{tokens.data() + segment.offset, segment.length, segment.circular, 0};
    for (; asked < data.objective.rows.size() &&
           data.objective.rows[asked] < segment.offset + segment.length;
         ++asked) {
      if (data.objective.kinds[asked] != TargetKind::kMasked) continue;
      tally.add(baseline.predict(view, data.objective.rows[asked] - segment.offset),
                data.objective.targets[asked]);
    }
  }
  return tally;
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

void add_baseline_columns(nlohmann::ordered_json& row, const KmerBaseline& baseline, int n,
                          const KmerTally& truth, const KmerTally& same, std::int64_t masked) {
  const auto side = static_cast<std::size_t>(n);
  row["kmer_n"] = n;
  row["kmer_bits"] = ratio(truth.bits[side], masked);
  row["kmer_accuracy"] = ratio(static_cast<double>(truth.correct[side]), masked);
  row["kmer_bits_same_view"] = ratio(same.bits[side], masked);
  row["kmer_accuracy_same_view"] = ratio(static_cast<double>(same.correct[side]), masked);
  row["kmer_by_n"] = nlohmann::ordered_json::array();
  for (int k = kLeastSide; k <= baseline.max_side(); ++k) {
    const auto i = static_cast<std::size_t>(k);
    row["kmer_by_n"].push_back(
        {{"n", k},
         {"bits", ratio(truth.bits[i], masked)},
         {"accuracy", ratio(static_cast<double>(truth.correct[i]), masked)},
         {"bits_same_view", ratio(same.bits[i], masked)},
         {"accuracy_same_view", ratio(static_cast<double>(same.correct[i]), masked)}});
  }
}

void parse_options(CLI::App& app, LossOptions& options) {
  prepare_app(app, "bench loss",
              "Cross-entropy and accuracy of a model against segment length. Of the A/C/G/T a "
              "seeded 15 % is chosen (80 % of them masked, 10 % replaced by another base, 10 % "
              "kept), once for all lengths; nats and bits are those of masked positions. Beside "
              "them a k-mer baseline: counts of a base given its n neighbours on each side, both "
              "strands, interpolated over n, on the same masked positions.");
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
  app.add_flag("--baseline-only", options.baseline_only, "no model, the baseline alone");
  app.add_option("--mask-rate", options.mask.rate, "share of positions to choose (default 0.15)")
      ->option_text("SHARE");
  app.add_option("--seed", options.seed, "of the chosen positions (default 1)")
      ->option_text("INT")
      ->check(whole_number);
  add_threads(app, options.bench.common);
  add_device(app, options.bench.common);
  add_topology(app, options.bench.common);
  add_input(app, options.bench.common);
  add_bench_options(app, options.bench);
}

void describe_baseline(BenchReport& report, const std::optional<KmerBaseline>& baseline, int n) {
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
                    {{"--baseline-cache", cache}});
  if (!cache.empty() && !KmerBaseline::may_save(cache)) {
    throw Error(ErrorKind::kUsage, "--baseline-cache: " + cache +
                                       ": is no k-mer table of m5, and would be replaced by one");
  }
}

}  // namespace

int bench_loss(int argc, char** argv) {
  LossOptions options;
  CLI::App app;
  parse_options(app, options);
  if (!parse_bench(app, argc, argv, options.bench)) return 0;
  check_mask_options(options.mask);
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
    session = std::make_unique<Session>(model, session_options(options.bench.common));
  }
  const Data data = load_data(options);
  std::int64_t longest = 0;
  for (const GenomeRecord& r : data.store.records) longest = std::max(longest, r.length);
  if (session) {
    require_memory(session->memory_needed(std::max(longest, kBatchTokens), kBatchSegments),
                   "a segment of " + with_commas(longest) + " nt");
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
  report.meta["threads"] = session ? session->threads() : 1;
  report.meta["tokens"] = data.store.total();
  report.meta["records"] = data.store.records.size();
  report.meta["mask_rate"] = options.mask.rate;
  report.meta["mask_shares"] = {options.mask.masked, options.mask.substituted, options.mask.kept};
  report.meta["seed"] = options.seed;
  report.meta["bits_are"] =
      "per masked base, given the visible rest of its segment; not comparable "
      "with bits of causal models or compressed sizes";
  describe_baseline(report, baseline, n);
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
    if (session) add_model_columns(row, evaluate(*session, data, segments));
    if (baseline) {
      add_baseline_columns(row, *baseline, n,
                           evaluate(*baseline, data, data.store.tokens, segments),
                           evaluate(*baseline, data, data.hidden, segments), masked);
    }
    report.rows.push_back(std::move(row));
  }

  std::vector<BenchColumn> columns = {{"segment_length"}, {"whole"}, {"segments"}};
  if (session) {
    for (const char* key : {"nats", "bits", "masked_accuracy", "snp_accuracy", "kept_accuracy"}) {
      columns.push_back({key, 4});
    }
  }
  if (baseline) {
    columns.push_back({"kmer_n"});
    for (const char* key :
         {"kmer_bits", "kmer_accuracy", "kmer_bits_same_view", "kmer_accuracy_same_view"}) {
      columns.push_back({key, 4});
    }
    if (!options.bench.json) report.meta["kmer_by_n"] = report.rows.back()["kmer_by_n"];
  }
  report.write(options.bench.common.output, columns, options.bench.json);
  return 0;
}

}  // namespace m5
