// m5 train: sequences -> model.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <iterator>
#include <limits>
#include <memory>
#include <numbers>
#include <optional>
#include <string>
#include <vector>

#include <unistd.h>

#include "base/log.hpp"
#include "base/memory.hpp"
#include "base/output.hpp"
#include "base/system.hpp"
#include "data/genome_store.hpp"
#include "io/byte_source.hpp"
#include "io/json.hpp"
#include "m5/error.hpp"
#include "m5/model.hpp"
#include "m5/session.hpp"
#include "nn/device.hpp"
#include "tools/commands.hpp"
#include "tools/input.hpp"
#include "tools/options.hpp"
#include "tools/paths.hpp"
#include "tools/progress.hpp"
#include "tools/run_memory.hpp"
#include "tools/train_options.hpp"
#include "train/trainer.hpp"
#include "train/training.hpp"

namespace m5 {
namespace {

// --- signals: the first one lets the step end and a checkpoint be written, the second one ends the
// process as it would without us ------------------------------------------------------------------

volatile std::sig_atomic_t received_signal = 0;
constexpr int kSignals[] = {SIGINT, SIGTERM, SIGHUP};
struct sigaction before[std::size(kSignals)];

void on_signal(int signal) {
  received_signal = signal;
  for (std::size_t i = 0; i < std::size(kSignals); ++i) sigaction(kSignals[i], &before[i], nullptr);
}

void catch_signals() {
  struct sigaction action {};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  for (std::size_t i = 0; i < std::size(kSignals); ++i) {
    sigaction(kSignals[i], nullptr, &before[i]);
  }
  // A signal that the caller told us to ignore stays ignored. All are known before the first can
  // come.
  for (std::size_t i = 0; i < std::size(kSignals); ++i) {
    if (before[i].sa_handler != SIG_IGN) sigaction(kSignals[i], &action, nullptr);
  }
}

// --- input and memory ---------------------------------------------------------------------------

using Options = TrainOptions;

std::string read_text(const std::string& path) {
  ByteSource source(path);
  std::string text;
  for (std::string_view bytes = source.read(); !bytes.empty(); bytes = source.read()) {
    text += bytes;
    if (text.size() > kLongestJson) break;  // it is refused for that
  }
  return text;
}

// The model training starts from; fresh parameters are drawn later, when memory has been checked.
Model starting_model(const Options& o) {
  if (!o.init.empty()) return load_model(o.init);
  Model model;
  model.config = o.config.empty() ? ModelConfig::preset(o.preset.empty() ? "nano-conv" : o.preset)
                                  : ModelConfig::from_json(read_text(o.config), o.config);
  model.config.validate();
  return model;
}

GenomeStore load(const Options& o, const std::vector<std::string>& files, const char* purpose) {
  // Contigs of different drafts may well share their names.
  GenomeStore store = load_genomes(files, topology_of(o.common),
                                   {.skip_empty = o.common.skip_empty,
                                    .allow_no_eof = o.common.allow_no_eof,
                                    .warn_duplicates = false});
  if (!store.has_bases()) {
    throw Error(ErrorKind::kInput, files[0] + (files.size() > 1 ? " and others" : "") +
                                       ": no A, C, G or T to " + purpose);
  }
  return store;
}

// --- talk ----------------------------------------------------------------------------------------

std::string figure(double value) {
  if (std::isnan(value)) return "none";  // no position to average over
  char text[32];
  std::snprintf(text, sizeof text, "%.4f", value);
  return text;
}

std::string validation_text(const ObjectiveResult& r) {
  return "validation " + figure(mean_nll(r, TargetKind::kMasked) / std::numbers::ln2) +
         " bits, accuracy masked " + figure(accuracy(r, TargetKind::kMasked)) + ", SNP " +
         figure(accuracy(r, TargetKind::kSubstituted)) + ", kept " +
         figure(accuracy(r, TargetKind::kKept));
}

class Reporter {
 public:
  explicit Reporter(const TrainSettings& settings)
      : steps_(settings.steps()),
        every_(std::max<std::int64_t>(1, settings.steps() / 100)),
        terminal_(isatty(STDERR_FILENO) == 1) {}

  void operator()(const StepRow& row) {
    if (row.validated) validation_ = validation_text(row.validation);
    if (terminal_) return show(row);
    if (row.step % every_ != 0 && row.step != steps_ && !row.validated) return;
    log_info("step " + std::to_string(row.step) + " of " + std::to_string(steps_) + ": loss " +
             figure(mean_nll(row.training)) + ", " + with_commas(std::llround(row.nt_per_second)) +
             " nt/s" + (row.validated ? ", " + validation_ : ""));
  }
  void finish() { progress_.reset(); }
  const std::string& validation() const { return validation_; }

 private:
  void show(const StepRow& row) {
    // The unit of the bar is the step; a resumed run has only the rest to do.
    if (!progress_) {
      progress_ = std::make_unique<Progress>("train", "steps", steps_ - row.step + 1);
    }
    progress_->note("step " + std::to_string(row.step) + ", loss " +
                    figure(mean_nll(row.training)) + ", " +
                    with_commas(std::llround(row.nt_per_second)) + " nt/s" +
                    (validation_.empty() ? "" : ", " + validation_));
    progress_->add(1);
  }

  std::int64_t steps_, every_;
  bool terminal_;
  std::string validation_;
  std::unique_ptr<Progress> progress_;
};

void check_checkpoint(const Options& o) {
  const bool exists = access(o.checkpoint.c_str(), F_OK) == 0;
  if (exists && !o.resume) {
    throw Error(ErrorKind::kUsage,
                o.checkpoint +
                    ": checkpoint of an unfinished run: continue it with --resume, or "
                    "remove it");
  }
  if (!exists && o.resume) {
    throw Error(ErrorKind::kIo, o.checkpoint + ": no checkpoint to resume from");
  }
}

void warn_shared_files(const std::vector<std::string>& training,
                       const std::vector<std::string>& validation) {
  for (const std::string& file : validation) {
    if (std::find(training.begin(), training.end(), file) != training.end()) {
      log_warning(file + ": is trained on and validated on; validation tells nothing then");
    }
  }
}

// Seconds per nt, from the second of two small steps.
double seconds_per_nt(const Options& o, const GenomeStore& training, const MemoryPlan& plan,
                      kernels::Device& device) {
  TrainSettings small = o.settings;
  const Stage& first = o.settings.curriculum[0];
  small.curriculum = {{std::min<std::int64_t>(first.segment_length, 4096), 2,
                       std::min<std::int64_t>(first.batch_tokens, 8192)}};
  small.accumulate = 1;
  TrainState state;
  state.parameters = initial_model(small.config, small.seed).parameters;
  Trainer trainer(small, training, device, std::move(state), plan.keep_every);
  trainer.step();
  const auto start = std::chrono::steady_clock::now();
  const StepResult result = trainer.step();
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  return seconds.count() / static_cast<double>(result.tokens);
}

void print_dry_run(const Options& o, const GenomeStore& training, const MemoryPlan& plan,
                   const MemoryLimit& limit, kernels::Device& device) {
  const auto line = [](const char* name, std::int64_t value) {
    std::printf("%s\t%lld\n", name, static_cast<long long>(value));
  };
  std::printf("device\t%s\n", device.name().c_str());
  line("threads", device.host().workers());
  line("files", static_cast<std::int64_t>(training.files.size()));
  line("records", static_cast<std::int64_t>(training.records.size()));
  line("nt", training.total());
  line("parameters", ParameterTable(o.settings.config).total);
  line("steps", o.settings.steps());
  line("rows", Trainer::largest_rows(o.settings, training));
  line("planned_tokens", o.settings.planned_tokens());
  line("keep_every_layers", plan.keep_every);
  line("memory_bytes", plan.bytes);
  if (plan.device_bytes > 0) {
    line("device_memory_bytes", static_cast<std::int64_t>(plan.device_bytes));
    line("device_memory_available_bytes", static_cast<std::int64_t>(plan.device_free));
  }
  line("memory_available_bytes", static_cast<std::int64_t>(limit.bytes));
  const bool all_fits = fits(static_cast<std::uint64_t>(plan.bytes), limit) && plan.fits_device();
  std::printf("memory_fits\t%s\n", all_fits ? "yes" : "no");
  // The trial takes little memory, but not none.
  const double trial = all_fits ? seconds_per_nt(o, training, plan, device) : std::nan("");
  std::printf("expected_seconds\t%.1f\n", trial * static_cast<double>(o.settings.planned_tokens()));
}

void check_files(const Options& o, const std::vector<std::string>& files) {
  std::vector<NamedPath> inputs = {{"--list", o.list},
                                   {"--config", o.config},
                                   {"--init", o.init},
                                   {"--circular-list", o.common.circular_list}};
  for (const std::string& file : files) inputs.push_back({"sequences", file});
  for (const std::string& file : o.validation_files) inputs.push_back({"--val", file});
  // The checkpoint is removed in the end: were it also the model, nothing would be left.
  check_paths({{"--output", o.common.output}, {"--checkpoint", o.checkpoint}, {"--log", o.log}},
              inputs);
  require_readable(files);
  require_readable(o.validation_files);
}

int train(Options& o) {
  std::vector<std::string> files = o.files;
  if (!o.list.empty()) {
    const std::vector<std::string> listed = read_file_list(o.list);
    files.insert(files.end(), listed.begin(), listed.end());
  }
  check_files(o, files);
  std::optional<FileLock> lock;
  if (!o.common.dry_run) {
    // A run of hours must not fail at its first checkpoint or its end for want of a directory.
    require_writable(o.common.output);
    if (!is_stream(o.checkpoint)) lock.emplace(follow_links(o.checkpoint) + ".lock");
    check_checkpoint(o);
    require_writable(o.checkpoint);
  }
  warn_shared_files(files, o.validation_files);
  Model model = starting_model(o);
  o.settings.config = model.config;
  if (o.common.memory == "off") o.settings.config.memory = {};
  if (o.common.memory == "on" && model.config.memory.empty()) {
    o.settings.config.memory = MemoryConfig::standard();
  }
  if (o.init.empty()) model.config = o.settings.config;
  o.settings.memory_only = o.learn == "memory";
  if (o.settings.memory_only && o.settings.config.memory.empty()) {
    throw Error(ErrorKind::kUsage, "--learn memory: the model has no genome memory (--memory on)");
  }
  o.settings.init_sha256 = model.sha256;
  const auto device = make_device(session_options(o.common));
  const GenomeStore training = load(o, files, "train on");
  const GenomeStore validation =
      o.validation_files.empty() ? GenomeStore{} : load(o, o.validation_files, "validate on");
  check_circular_list(o.common, {&training, &validation});
  const MemoryLimit limit = memory_limit(o.common.max_memory);
  const std::int64_t held = held_memory(device->host().workers(), true);
  MemoryPlan plan =
      Trainer::plan_memory(o.settings, training, validation, *device,
                           static_cast<std::int64_t>(limit.bytes + kMemoryTolerance) - held);
  plan.bytes = std::max(plan.bytes + held, peak_rss_bytes());
  if (o.common.dry_run) {
    print_dry_run(o, training, plan, limit, *device);
    return 0;
  }
  require_memory(static_cast<std::uint64_t>(plan.bytes),
                 "training with these --batch-tokens and --segment-length");
  plan.require_device();
  if (o.init.empty()) {
    model.parameters = initial_model(model.config, o.settings.seed).parameters;
  } else {
    model = with_memory(model, o.settings.config.memory, o.settings.seed);
  }
  log_info(with_commas(training.total()) + " nt in " +
           with_commas(static_cast<std::int64_t>(training.records.size())) + " records of " +
           with_commas(static_cast<std::int64_t>(files.size())) + " files; " + model.config.name +
           ", " + with_commas(static_cast<std::int64_t>(model.parameters.size())) +
           " parameters; " + device->name() + ", " + std::to_string(device->host().workers()) +
           " threads; memory " + with_commas(plan.bytes) + " bytes" +
           (plan.device_bytes == 0
                ? ""
                : ", of the device " + with_commas(static_cast<std::int64_t>(plan.device_bytes)) +
                      " bytes") +
           (plan.keep_every == 1
                ? ""
                : "; activation checkpoint every " + std::to_string(plan.keep_every) + " layers"));

  Reporter reporter(o.settings);
  TrainingRun run;
  run.settings = o.settings;
  run.training = &training;
  run.validation = o.validation_files.empty() ? nullptr : &validation;
  run.validate_every = o.validate_every;
  run.validation_tokens = o.validation_tokens;
  run.log = o.log;
  run.checkpoint = o.checkpoint;
  run.checkpoint_every = o.checkpoint_every;
  run.resume = o.resume;
  run.keep_every = plan.keep_every;
  run.stop = [] { return received_signal != 0; };
  run.report = [&reporter](const StepRow& row) { reporter(row); };
  catch_signals();
  const bool complete = run_training(run, *device, model);
  reporter.finish();
  if (!complete) {
    log_warning("interrupted: " + o.checkpoint +
                " is written; the same command with --resume "
                "continues");
    return 128 + received_signal;
  }
  save_model(model, o.common.output);
  std::remove(o.checkpoint.c_str());  // complete: nothing is left to resume
  log_memory();
  log_info("wrote " + o.common.output +
           (reporter.validation().empty() ? "" : "; " + reporter.validation()));
  return 0;
}

}  // namespace

int cmd_train(int argc, char** argv) {
  Options options;
  CLI::App app;
  prepare_app(app, "train", "Trains a model on sequences.");
  add_train_options(app, options);
  if (!parse_command_line(app, argc, argv)) return 0;
  check_train_options(options);
  return train(options);
}

}  // namespace m5
