// m5 embed: vectors for records, windows, bases or features.
//
// Notes for the man page: only A, C, G and T are pooled; a unit without any has a row of zeros and
// n_bases 0. --per base has a row for every position, N included. Windows start at 0, STEP, 2 STEP
// ...; the last one is the first that reaches the end, and may be shorter. With regions, a region
// takes the place of the record: its pooled row, the windows from its start on, its bases. Regions
// stay separate rows in the order they were given, but for --per base, where they are merged.
// Features come in the order of their file, of several parts as one row, and one that runs past the
// end of a circular record wraps.
#include <utility>

#include "base/memory.hpp"
#include "base/pipeline.hpp"
#include "m5/error.hpp"
#include "sinks/embed_sink.hpp"
#include "sinks/tabix.hpp"
#include "tools/commands.hpp"
#include "tools/dry_run.hpp"
#include "tools/embed_units.hpp"
#include "tools/input.hpp"
#include "tools/options.hpp"
#include "tools/progress.hpp"

namespace m5 {

namespace {

struct EmbedArguments {
  CommonOptions common;
  InputArguments input;
  EmbedUnits units;
  std::string dtype = "float32", format, index;
};

void declare(CLI::App& app, EmbedArguments& a) {
  add_input_arguments(app, a.input);
  add_model(app, a.common);
  add_output(app, a.common);
  app.add_option("-O,--output-fmt", a.format,
                 "npy (with FILE.tsv beside it), npz or tsv (default: by the name of -o)")
      ->option_text("npy|npz|tsv")
      ->check(CLI::IsMember({"npy", "npz", "tsv"}));
  app.add_option("--per", a.units.per,
                 "one row per record (default), window, base, feature or file")
      ->option_text("UNIT")
      ->check(CLI::IsMember({"record", "window", "base", "feature", "file"}));
  add_unit_options(app, a.units);
  app.add_option("--strand", a.units.strand,
                 "forward; both: the mean of a row and its reverse complement's; feature: as the "
                 "feature is read (default: feature with --per feature, else both)")
      ->option_text("forward|both|feature")
      ->check(CLI::IsMember({"forward", "both", "feature"}));
  add_sizes(app, "--layer", a.units.layers,
            "rows after so many blocks; 0: the embedding (default: the last); 1,2,4: of several, "
            "in one pass")
      ->option_text("INT[,INT...]");
  app.add_option("--pool", a.units.pool,
                 "mean (default), max or std (standard deviation), over A, C, G and T")
      ->option_text("mean|max|std")
      ->check(CLI::IsMember({"mean", "max", "std"}));
  app.add_option("--dtype", a.dtype, "float32 (default) or float16")
      ->option_text("TYPE")
      ->check(CLI::IsMember({"float32", "float16"}));
  add_write_index(app, a.index);
  add_run(app, a.common);
}

void check(const CLI::App& app, EmbedArguments& a) {
  const auto refuse = [](const std::string& message) { throw Error(ErrorKind::kUsage, message); };
  const bool features = a.units.per == "feature";
  check_unit_options(app, a.common, a.units);
  for (std::size_t i = 1; i < a.units.layers.size(); ++i) {
    if (a.units.layers[i] <= a.units.layers[i - 1]) {
      refuse("--layer: layers ascend, and each is there once");
    }
  }
  if (a.units.per == "base" && a.units.layers.size() > 1) {
    refuse("--per base writes rows as they are computed, of one layer: give one --layer at a time");
  }
  if (a.units.per == "base" && app.count("--pool") > 0) {
    refuse("--per base pools nothing: no --pool");
  }
  if (a.units.strand == "feature" && !features) refuse("--strand feature goes with --per feature");
  if (a.units.strand.empty()) a.units.strand = features ? "feature" : "both";
  if (a.format.empty()) {
    if (a.units.per == "base" && a.common.output == "-") {
      refuse("--per base writes a row a base: give -o FILE.npy or .npz, or ask with -O tsv");
    }
    a.format = embed_format_of(a.common.output);
  }
}

std::vector<std::string> header_of(const EmbedArguments& a, const Model& model, int argc,
                                   char** argv) {
  std::string settings = unit_settings(a.units);
  settings += " strand=" + a.units.strand;
  settings += " layer=" + (a.units.layers.empty() ? std::to_string(model.config.layers) : "");
  for (std::size_t i = 0; i < a.units.layers.size(); ++i) {
    settings += (i > 0 ? "," : "") + std::to_string(a.units.layers[i]);
  }
  if (a.units.per != "base") settings += " pool=" + a.units.pool;
  settings += " dtype=" + a.dtype;
  return header_lines(a.common, "embed", argc, argv, model, settings);
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
  std::string index;  // its file
  if (!a.index.empty()) {
    if (a.format != "tsv" || a.units.per == "file") {
      throw Error(ErrorKind::kUsage, "--write-index is for tsv with rows that have a place");
    }
    index = index_path(a.common.output, a.index);
    a.common.unique_names = true;
  }
  const bool table = a.format == "npy" && a.common.output != "-";
  InputPlan plan = open_input(
      a.input, a.common,
      {{"the table beside it", table ? a.common.output + ".tsv" : ""}, {"--write-index", index}},
      {{"--features", a.units.features}});
  if (a.units.per == "file" && !plan.regions.empty()) {
    throw Error(ErrorKind::kUsage, "--per file takes no regions: a row is of the whole file");
  }
  if (!a.index.empty() && !plan.regions.empty()) {
    throw Error(ErrorKind::kUsage, "--write-index takes no regions: they come in any order");
  }
  if (a.units.per == "feature" && !plan.regions.empty()) {
    throw Error(ErrorKind::kUsage, "--per feature takes no regions: the features are the regions");
  }
  RegionSelector selector(std::move(plan.regions));
  if (!selector.empty()) check_regions(selector, plan.files, a.common);
  FeatureTable features(a.units.features, a.units.feature_options);
  check_names(plan.files, a.common, {});
  a.common.circular_names.insert(features.circular().begin(), features.circular().end());
  if (a.units.per == "feature") {
    check_features(features, plan.files, a.common);
    if (!a.index.empty() && can_be_read_twice(plan.files)) features.require_order();
  }

  Model model = open_model(a.common);
  if (!a.units.layers.empty() && a.units.layers.back() > model.config.layers) {
    throw Error(ErrorKind::kUsage, "--layer: " + std::to_string(a.units.layers.back()) +
                                       " is more than the " + std::to_string(model.config.layers) +
                                       " blocks of model '" + model.config.name + "'");
  }
  Session session(model, session_options(a.common));
  std::vector<float>().swap(model.parameters);  // the session has them
  EmbedSinkOptions sink_options;
  sink_options.path = a.common.output;
  sink_options.dim = model.config.dim;
  if (a.units.layers.size() > 1) sink_options.layers = a.units.layers;
  sink_options.float16 = a.dtype == "float16";
  sink_options.header = header_of(a, model, argc, argv);
  sink_options.files = plan.files;
  sink_options.index = a.index;
  Embedder embedder(a.units, plan.files, session, selector, features,
                    embed_row_memory(a.format, sink_options));
  std::function<bool(const std::string&)> keep;
  if (!selector.empty() || a.units.per == "feature") {
    keep = [&embedder](const std::string& name) { return embedder.wants(name); };
  }
  Pipeline<InputBatch, Embedded> pipeline;
  BatchReader reader(plan.files, a.common, batch_limits(session), keep, pipeline.stop_token(),
                     [&](const std::string& what, std::int64_t rows) {
                       if (!a.common.dry_run) embedder.run_memory().check(what, rows);
                     });
  if (a.common.dry_run) {
    DryRun dry(a.common, session);
    for (InputBatch batch; reader.next(batch);) {
      const std::vector<Unit> units = embedder.units_of(batch);
      dry.add(batch, embedder.memory(batch, units), embedder.passes(units));
    }
    dry.print([&](std::span<const TokenView> sequences) {
      session.hidden(sequences, embedder.layers(), [](int, std::int64_t, int, const float*) {});
    });
    return 0;
  }

  const std::unique_ptr<EmbedSink> sink = make_embed_sink(a.format, sink_options);
  Progress progress("embed", "nt");
  const auto compute = [&](InputBatch batch) {
    std::vector<Unit> units = embedder.units_of(batch);
    require_memory(embedder.memory(batch, units), batch_name(batch));
    const std::int64_t rows = batch.rows;
    const int passes = embedder.passes(units);
    std::int64_t shown = 0, layers = 0;  // of the rows; of all passes
    session.on_layer([&](int, int of) {
      pipeline.check();
      const std::int64_t now = rows * ++layers / (std::int64_t{of} * passes);
      progress.add(now - std::exchange(shown, now));
    });
    Embedded embedded =
        embedder.compute(std::move(batch), std::move(units), *sink, [&] { pipeline.check(); });
    session.on_layer({});
    progress.add(rows - shown);
    return embedded;
  };
  pipeline.run([&](InputBatch& batch) { return reader.next(batch); }, compute,
               [&](Embedded& embedded) { embedder.write(embedded, *sink); });
  embedder.finish(*sink);
  selector.finish();
  if (a.units.per == "feature") features.write(*sink);
  sink->commit();
  log_memory();
  return 0;
}

}  // namespace m5
