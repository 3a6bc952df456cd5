// m5 embed: vectors for records, windows, bases or features.
//
// Notes for the man page: only A, C, G and T are pooled; a unit without any has a row of zeros and
// n_bases 0. --per base has a row for every position, N included. Windows start at 0, STEP, 2 STEP
// ...; the last one is the first that reaches the end, and may be shorter. With regions, a region
// takes the place of the record: its pooled row, the windows from its start on, its bases. Regions
// stay separate rows in the order they were given, but for --per base, where they are merged.
// Features come in the order of their file, and one that runs past the end of a circular record
// wraps. The model reads the forward strand; the strand column repeats the annotation.
#include <algorithm>
#include <cmath>
#include <map>

#include "base/log.hpp"
#include "io/features.hpp"
#include "m5/error.hpp"
#include "nn/pooling.hpp"
#include "sinks/embed_sink.hpp"
#include "tools/commands.hpp"
#include "tools/input.hpp"
#include "tools/options.hpp"
#include "tools/progress.hpp"

namespace m5 {

namespace {

struct EmbedArguments {
  CommonOptions common;
  InputArguments input;
  std::string per = "record", features, feature_type, pool = "mean", dtype = "float32", format;
  std::int64_t window = 1000, step = 0;
  int layer = -1;
};

void declare(CLI::App& app, EmbedArguments& a) {
  add_input_arguments(app, a.input);
  add_model(app, a.common);
  add_output(app, a.common);
  app.add_option("-O,--output-fmt", a.format,
                 "npy (with FILE.tsv beside it), npz or tsv (default: by the name of -o)")
      ->option_text("npy|npz|tsv")
      ->check(CLI::IsMember({"npy", "npz", "tsv"}));
  app.add_option("--per", a.per, "one row per record (default), window, base or feature")
      ->option_text("UNIT")
      ->check(CLI::IsMember({"record", "window", "base", "feature"}));
  add_size(app, "--window", a.window, "nt of a window (default 1000)", 1);
  add_size(app, "--step", a.step, "nt from one window to the next (default: the window)", 1);
  app.add_option("--features", a.features, "BED or GFF3 file (plain or gzip) for --per feature")
      ->option_text("FILE");
  app.add_option("--feature-type", a.feature_type, "only GFF3 features of this type (column 3)")
      ->option_text("TYPE");
  app.add_option("--layer", a.layer,
                 "rows after so many blocks; 0: the embedding (default: the last)")
      ->option_text("INT")
      ->check(CLI::Range(0, 1000000));
  app.add_option("--pool", a.pool, "mean (default) or max, over A, C, G and T")
      ->option_text("mean|max")
      ->check(CLI::IsMember({"mean", "max"}));
  app.add_option("--dtype", a.dtype, "float32 (default) or float16")
      ->option_text("TYPE")
      ->check(CLI::IsMember({"float32", "float16"}));
  add_context(app, a.common);
  add_topology(app, a.common);
  add_threads(app, a.common);
  add_device(app, a.common);
  add_dry_run(app, a.common);
  add_input(app, a.common);
  add_header(app, a.common);
  add_verbosity(app, a.common);
}

void check(const CLI::App& app, EmbedArguments& a) {
  const auto refuse = [](const std::string& message) { throw Error(ErrorKind::kUsage, message); };
  const bool features = a.per == "feature";
  if (features && a.features.empty()) refuse("--per feature needs --features FILE");
  if (!features && !a.features.empty()) refuse("--features goes with --per feature");
  if (!a.feature_type.empty() && a.features.empty()) refuse("--feature-type needs --features");
  if (a.per != "window" && app.count("--window") + app.count("--step") > 0) {
    refuse("--window and --step go with --per window");
  }
  if (a.per == "base" && app.count("--pool") > 0) refuse("--per base pools nothing: no --pool");
  if (a.step == 0) a.step = a.window;
  if (a.format.empty()) {
    if (a.per == "base" && a.common.output == "-") {
      refuse("--per base writes a row a base: give -o FILE.npy or .npz, or ask with -O tsv");
    }
    a.format = embed_format_of(a.common.output);
  }
}

// A row of the result to be: an interval of a record of the batch.
struct Unit {
  EmbedRow row;
  PoolInterval interval;
  std::size_t feature = 0;  // in the file of features
};

// Features by the name of their record, and the rows found for them.
class FeatureTable {
 public:
  explicit FeatureTable(const EmbedArguments& a) : path_(a.features) {
    if (a.features.empty()) return;
    features_ = read_features(a.features, a.feature_type);
    if (features_.empty()) {
      throw Error(ErrorKind::kInput,
                  path_ + ": no features" +
                      (a.feature_type.empty() ? "" : " of type '" + a.feature_type + "'"));
    }
    rows_.resize(features_.size());
    for (std::size_t i = 0; i < features_.size(); ++i) by_name_[features_[i].seqid].push_back(i);
  }

  bool wants(const std::string& record) const { return by_name_.count(record) > 0; }

  void units(const InputRecord& record, std::int64_t sequence, std::vector<Unit>& units) {
    const auto found = by_name_.find(record.name);
    if (found == by_name_.end()) return;
    const auto length = static_cast<std::int64_t>(record.tokens.size());
    for (const std::size_t i : found->second) {
      const Feature& feature = features_[i];
      if (!rows_[i].empty()) continue;  // a second record of the same name: the first one counts
      const bool fits = feature.end <= length || (record.circular && feature.begin < length &&
                                                  feature.end - feature.begin <= length);
      if (!fits) {
        throw Error(ErrorKind::kInput, path_ + ": line " + std::to_string(feature.line) +
                                           ": feature '" + feature.name + "' ends at " +
                                           std::to_string(feature.end) + ", record '" +
                                           record.name + "' at " + std::to_string(length));
      }
      Unit& unit = units.emplace_back();
      unit.row = {feature.name, record.name, feature.begin, feature.end, feature.strand, 0};
      unit.interval = {sequence, feature.begin, feature.end};
      unit.feature = i;
    }
  }

  void keep(const Unit& unit, const std::vector<float>& values) {
    if (!rows_[unit.feature].empty()) return;
    rows_[unit.feature] = values;
    bases_.resize(features_.size());
    bases_[unit.feature] = unit.row.bases;
  }

  // All rows in the order of the file. Throws if a feature's record never came.
  void write(EmbedSink& sink) const {
    for (std::size_t i = 0; i < features_.size(); ++i) {
      const Feature& feature = features_[i];
      if (rows_[i].empty()) {
        throw Error(ErrorKind::kInput, path_ + ": line " + std::to_string(feature.line) +
                                           ": no record '" + feature.seqid + "' in the input");
      }
      name_file(path_, [&] {
        sink.add(
            {feature.name, feature.seqid, feature.begin, feature.end, feature.strand, bases_[i]},
            rows_[i].data());
      });
    }
  }

  std::int64_t size() const { return static_cast<std::int64_t>(features_.size()); }

 private:
  std::string path_;
  std::vector<Feature> features_;
  std::map<std::string, std::vector<std::size_t>> by_name_;
  std::vector<std::vector<float>> rows_;
  std::vector<std::int64_t> bases_;
};

class Embedder {
 public:
  Embedder(const EmbedArguments& a, Session& session, RegionSelector& selector,
           FeatureTable& features, std::uint64_t row_memory)
      : a_(a),
        session_(session),
        selector_(selector),
        features_(features),
        row_memory_(row_memory),
        layer_(a.layer < 0 ? session.config().layers : a.layer),
        dim_(session.config().dim) {}

  bool wants(const std::string& record) const {
    return a_.per == "feature" ? features_.wants(record) : selector_.wants(record);
  }

  std::vector<Unit> units_of(const InputBatch& batch) {
    std::vector<Unit> units;
    for (std::size_t i = 0; i < batch.records.size(); ++i) {
      const InputRecord& record = batch.records[i];
      const auto sequence = static_cast<std::int64_t>(i);
      if (a_.per == "feature") {
        features_.units(record, sequence, units);
        continue;
      }
      for (const Interval& interval : intervals_of(record)) {
        const std::int64_t window = a_.per == "window" ? a_.window : interval.end - interval.begin;
        const std::int64_t step = a_.per == "window" ? a_.step : window;
        for (std::int64_t begin = interval.begin; begin < interval.end; begin += step) {
          const std::int64_t end = std::min(interval.end - begin, window) + begin;
          Unit& unit = units.emplace_back();
          unit.row = {record.name, record.name, begin, end, '.', 0};
          unit.interval = {sequence, begin, end};
          if (end == interval.end) break;
        }
      }
    }
    return units;
  }

  // Of the rows of a batch that stay until the end: what the sink keeps, and, since they are
  // written in the order of their file, the values of features.
  std::uint64_t kept_memory(const std::vector<Unit>& units) const {
    std::uint64_t bytes = 0;
    for (const Unit& unit : units) {
      const std::int64_t rows = a_.per == "base" ? unit.interval.end - unit.interval.begin : 1;
      bytes += static_cast<std::uint64_t>(rows) * row_memory_;
      if (a_.per != "feature") continue;
      constexpr std::uint64_t kAllocation = 16;
      bytes += sizeof(float) * static_cast<std::uint64_t>(dim_) + kAllocation;
      // Names, as text and, in the end, as code points.
      if (row_memory_ > 0)
        bytes += 2 * (sizeof(std::string) + kAllocation) + 5 * unit.row.name.size();
    }
    return bytes;
  }

  // While a batch is in the model; what is kept of it and of earlier ones comes on top.
  std::uint64_t memory(const InputBatch& batch, const std::vector<Unit>& units) const {
    const auto count = static_cast<std::int64_t>(units.size());
    const std::uint64_t model =
        program_memory(batch) + session_.memory_needed(batch.rows, batch.contexts);
    if (a_.per == "base") return model;
    return model + Pooler::memory(batch.rows, count, dim_) +
           static_cast<std::uint64_t>(count) * (sizeof(Unit) + sizeof(PoolInterval));
  }

  void run(const InputBatch& batch, std::vector<Unit>& units, EmbedSink& sink) {
    if (units.empty()) return;
    if (a_.per == "base") return write_bases(batch, units, sink);
    std::vector<PoolInterval> intervals;
    intervals.reserve(units.size());
    for (const Unit& unit : units) intervals.push_back(unit.interval);
    Pooler pooler(batch.views, intervals, dim_, a_.pool == "max" ? Pool::kMax : Pool::kMean);
    session_.hidden(batch.views, layer_, [&](std::int64_t first_row, int n, const float* values) {
      check_finite(batch, first_row, n, values);
      pooler.add(first_row, n, values);
    });
    std::vector<float> values(static_cast<std::size_t>(dim_));
    for (std::size_t i = 0; i < units.size(); ++i) {
      pooler.result(i, values.data());
      units[i].row.bases = pooler.bases(i);
      if (a_.per == "feature") {
        features_.keep(units[i], values);
      } else {
        const std::string& file = batch.records[sequence(units[i])].file;
        name_file(file, [&] { sink.add(units[i].row, values.data()); });
      }
    }
  }

 private:
  std::vector<Interval> intervals_of(const InputRecord& record) {
    const auto length = static_cast<std::int64_t>(record.tokens.size());
    if (selector_.empty()) return {{0, length}};
    if (!selector_.wants(record.name)) return {};
    const std::vector<Interval> intervals = selector_.select(record.name, length);
    // A row a base needs no second row for a base of two regions.
    return a_.per == "base" ? merge_intervals(intervals) : intervals;
  }

  void check_finite(const InputBatch& batch, std::int64_t first_row, int n,
                    const float* values) const {
    const float* const end = values + static_cast<std::int64_t>(n) * dim_;
    const float* const bad = std::find_if(values, end, [](float v) { return !std::isfinite(v); });
    if (bad == end) return;
    std::int64_t position = first_row + (bad - values) / dim_;
    std::size_t record = 0;
    while (position >= batch.views[record].length) position -= batch.views[record++].length;
    throw Error(ErrorKind::kNumeric, batch.records[record].file + ": record '" +
                                         batch.records[record].name + "': position " +
                                         std::to_string(position + 1) +
                                         ": the model gives a value that is not finite");
  }

  // Units are whole records or regions, ascending; a row for every position in them.
  void write_bases(const InputBatch& batch, const std::vector<Unit>& units, EmbedSink& sink) {
    std::vector<std::int64_t> first_row;
    std::int64_t rows = 0;
    for (const TokenView& view : batch.views) {
      first_row.push_back(rows);
      rows += view.length;
    }
    std::size_t next = 0;  // unit
    EmbedRow row;
    RowOrder order(dim_, [&](std::int64_t first, int n, const float* values) {
      for (int i = 0; i < n; ++i, values += dim_) {
        while (next < units.size() &&
               first + i >= first_row[sequence(units[next])] + units[next].interval.end) {
          ++next;
        }
        if (next == units.size()) return;
        const std::int64_t position = first + i - first_row[sequence(units[next])];
        if (position < units[next].interval.begin) continue;
        if (row.name != units[next].row.name) row.name = row.sequence = units[next].row.name;
        row.begin = position;
        row.end = position + 1;
        row.bases = is_base(batch.views[sequence(units[next])].tokens[position]) ? 1 : 0;
        name_file(batch.records[sequence(units[next])].file, [&] { sink.add(row, values); });
      }
    });
    session_.hidden(batch.views, layer_, [&](std::int64_t first, int n, const float* values) {
      check_finite(batch, first, n, values);
      order.add(first, n, values);
    });
  }
  static std::size_t sequence(const Unit& unit) {
    return static_cast<std::size_t>(unit.interval.sequence);
  }

  const EmbedArguments& a_;
  Session& session_;
  RegionSelector& selector_;
  FeatureTable& features_;
  std::uint64_t row_memory_;  // bytes the sink keeps of a row
  int layer_, dim_;
};

std::vector<std::string> header_of(const EmbedArguments& a, const Model& model, int argc,
                                   char** argv) {
  if (a.common.no_header) return {};
  std::vector<std::string> lines = provenance_lines("embed", argc, argv, model);
  std::string settings = "#settings: per=" + a.per;
  if (a.per == "window") {
    settings += " window=" + std::to_string(a.window) + " step=" + std::to_string(a.step);
  }
  settings += " layer=" + std::to_string(a.layer < 0 ? model.config.layers : a.layer);
  if (a.per != "base") settings += " pool=" + a.pool;
  settings += " dtype=" + a.dtype + " context=" + a.common.context;
  settings += " device=" + (a.common.device == "auto" ? "cpu" : a.common.device);
  settings += " precision=" + a.common.precision;
  lines.push_back(settings);
  return lines;
}

}  // namespace

int cmd_embed(int argc, char** argv) {
  EmbedArguments a;
  CLI::App app;
  prepare_app(app, "embed", "Vectors for records, windows, bases or features of sequences.");
  declare(app, a);
  if (!parse_command_line(app, argc, argv)) return 0;
  check_common(a.common, "embed");
  check(app, a);
  const InputPlan plan = plan_input(a.input);
  if (a.per == "feature" && !plan.regions.empty()) {
    throw Error(ErrorKind::kUsage, "--per feature takes no regions: the features are the regions");
  }
  std::vector<NamedPath> outputs = {{"--output", a.common.output}};
  if (a.format == "npy" && a.common.output != "-") {
    outputs.push_back({"the table beside it", a.common.output + ".tsv"});
  }
  std::vector<NamedPath> inputs = named_inputs(a.input, plan, a.common);
  if (!a.features.empty()) inputs.push_back({"--features", a.features});
  check_paths(outputs, inputs);
  RegionSelector selector(plan.regions);
  FeatureTable features(a);

  const Model model = open_model(a.common);
  if (a.layer > model.config.layers) {
    throw Error(ErrorKind::kUsage, "--layer: " + std::to_string(a.layer) + " is more than the " +
                                       std::to_string(model.config.layers) + " blocks of model '" +
                                       model.config.name + "'");
  }
  Session session(model, session_options(a.common));
  EmbedSinkOptions sink_options;
  sink_options.path = a.common.output;
  sink_options.dim = model.config.dim;
  sink_options.float16 = a.dtype == "float16";
  sink_options.header = header_of(a, model, argc, argv);
  Embedder embedder(a, session, selector, features, embed_row_memory(a.format, sink_options));
  std::uint64_t kept = 0;  // bytes of the rows so far
  std::function<bool(const std::string&)> keep;
  if (!selector.empty() || a.per == "feature") {
    keep = [&embedder](const std::string& name) { return embedder.wants(name); };
  }
  BatchReader reader(plan.files, a.common, keep);
  if (a.common.dry_run) {
    DryRun dry;
    for (InputBatch batch; reader.next(batch);) {
      dry.records += static_cast<std::int64_t>(batch.records.size());
      dry.rows += batch.rows;
      const std::vector<Unit> units = embedder.units_of(batch);
      kept += embedder.kept_memory(units);
      dry.memory = std::max(dry.memory, embedder.memory(batch, units) + kept);
    }
    dry.forward_rows = dry.rows;
    dry.seconds = calibrate_seconds_per_row(session, dry.rows) * static_cast<double>(dry.rows);
    print_dry_run(a.common, session, dry);
    return 0;
  }

  const std::unique_ptr<EmbedSink> sink = make_embed_sink(a.format, sink_options);
  Progress progress("embed", "nt");
  for (InputBatch batch; reader.next(batch);) {
    std::vector<Unit> units = embedder.units_of(batch);
    const std::uint64_t more = embedder.kept_memory(units);
    check_memory(a.common, embedder.memory(batch, units) + kept + more, batch_name(batch), kept);
    kept += more;
    embedder.run(batch, units, *sink);
    progress.add(batch.rows);
  }
  selector.finish();
  if (a.per == "feature") features.write(*sink);
  sink->commit();
  return 0;
}

}  // namespace m5
