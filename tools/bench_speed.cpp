// m5 bench speed: nucleotides a second against length and threads, beside the measured peak.
#include <time.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <memory>
#include <optional>

#include "base/log.hpp"
#include "base/memory.hpp"
#include "base/random.hpp"
#include "base/system.hpp"
#include "kernels/devices.hpp"
#include "kernels/tiled/make_tiled_sweeps.hpp"
#include "m5/error.hpp"
#include "nn/device.hpp"
#include "nn/encoder.hpp"
#include "nn/measured_peak.hpp"
#include "nn/timed_backend.hpp"
#include "tools/bench_report.hpp"
#include "train/masking.hpp"

namespace m5 {
namespace {

using Clock = std::chrono::steady_clock;

constexpr double kRepeatSeconds = 0.2;  // a repeat runs short sequences several times
constexpr double kPeakSeconds = 0.05;   // of each product, before the rows and after every row
constexpr std::uint64_t kSeed = 1;

struct Settings {
  std::vector<std::int64_t> lengths;
  std::vector<int> threads;
  std::vector<std::string> modes;
  SessionOptions session;
  int repeats = 3;
  bool breakdown = false;
};

std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> words;
  for (std::size_t at = 0; at <= text.size();) {
    const std::size_t comma = std::min(text.find(',', at), text.size());
    words.push_back(text.substr(at, comma - at));
    at = comma + 1;
  }
  return words;
}

std::vector<int> parse_threads(const std::string& text) {
  std::vector<int> threads;
  for (const std::string& word : split(text)) {
    const bool digits = !word.empty() && word.size() < 5 &&
                        word.find_first_not_of("0123456789") == std::string::npos;
    const int n = digits ? std::stoi(word) : -1;
    if (n < 0 || n > 4096) {
      throw Error(ErrorKind::kUsage, "--threads: '" + word + "' is no number from 0 to 4096");
    }
    threads.push_back(n == 0 ? available_cpus() : n);
  }
  return threads;
}

std::vector<std::string> parse_modes(const std::string& text) {
  std::vector<std::string> modes = split(text);
  for (const std::string& mode : modes) {
    if (mode != "forward" && mode != "train") {
      throw Error(ErrorKind::kUsage, "--mode: '" + mode + "' is neither forward nor train");
    }
  }
  return modes;
}

// One kind of work on one sequence.
struct Task {
  double flops_per_nt = 0;
  std::function<void()> run;
};

Task forward_task(const Model& model, Encoder<float>& encoder, const std::vector<Token>& genome) {
  const auto length = static_cast<std::int64_t>(genome.size());
  struct State {
    std::vector<TokenView> batch;
    std::vector<std::int64_t> rows;
    std::vector<float> log_probs;
  };
  auto state = std::make_shared<State>();
  state->batch = {{genome.data(), length, false, 0}};
  for (std::int64_t i = 0; i < length; ++i) state->rows.push_back(i);
  state->log_probs.resize(static_cast<std::size_t>(length) * kBases);
  Task task;
  task.flops_per_nt = forward_flops_per_nt(model.config);
  task.run = [state, &encoder] {
    encoder.log_probs(state->batch, state->rows, state->log_probs.data());
    if (!std::isfinite(state->log_probs[0])) {
      throw Error(ErrorKind::kNumeric, "log-probability of the first base is not finite");
    }
  };
  return task;
}

Task training_task(const Model& model, Encoder<float>& encoder, const std::vector<Token>& genome) {
  const auto length = static_cast<std::int64_t>(genome.size());
  struct State {
    std::vector<Token> tokens;
    std::vector<TokenView> batch;
    Objective objective;
    std::vector<double> gradient;
    kernels::ParameterState none;             // they stay in the sweeps
    std::unique_ptr<kernels::Update> update;  // of a device that keeps the gradient
  };
  auto state = std::make_shared<State>();
  state->tokens = genome;
  mask_window({kSeed, 0, 0}, MaskOptions{}, 0, state->tokens, state->objective);
  state->batch = {{state->tokens.data(), length, false, 0}};
  const kernels::UpdatePart all{.size = static_cast<std::int64_t>(model.parameters.size())};
  state->update = encoder.sweeps().make_update({&all, 1}, state->none);
  if (!state->update) state->gradient.assign(model.parameters.size(), 0.0);
  const double chosen = static_cast<double>(state->objective.rows.size());
  Task task;
  task.flops_per_nt = training_flops_per_nt(model.config, chosen / static_cast<double>(length));
  task.run = [state, chosen, &encoder] {
    const ObjectiveResult r = encoder.loss_and_gradient(
        state->batch, state->objective, 1 / std::max(chosen, 1.0),
        state->update ? state->update->gradient() : state->gradient.data());
    if (!std::isfinite(r.total_nll())) throw Error(ErrorKind::kNumeric, "the loss is not finite");
  };
  return task;
}

// Seconds of one run: the best of the repeats.
double best_seconds(const std::function<void()>& run, int repeats) {
  run();  // memory, packed weights
  double best = std::numeric_limits<double>::infinity();
  for (int repeat = 0; repeat < repeats; ++repeat) {
    const auto start = Clock::now();
    double elapsed = 0;
    int calls = 0;
    while (elapsed < kRepeatSeconds) {
      run();
      ++calls;
      elapsed = std::chrono::duration<double>(Clock::now() - start).count();
    }
    best = std::min(best, elapsed / calls);
  }
  return best;
}

double process_cpu_seconds() {
  timespec t{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

// Rows of CPU time by operation, of one run of `task`, which works on the backend that `times`
// belongs to. What no operation takes is "outside": copies between blocks, sums, memory, threads.
void break_down(const Task& task, OperationTimes& times, const nlohmann::ordered_json& of,
                nlohmann::ordered_json& rows) {
  task.run();  // memory, packed weights
  times.reset();
  const double start = process_cpu_seconds();
  double elapsed = 0;
  int calls = 0;
  while (elapsed < kRepeatSeconds) {
    task.run();
    ++calls;
    elapsed = process_cpu_seconds() - start;
  }
  std::vector<OperationTimes::Share> shares = times.shares();
  double outside = elapsed;
  for (const auto& s : shares) outside -= s.seconds;
  shares.push_back({"outside", std::max(outside, 0.0)});
  for (const auto& s : shares) {
    auto row = of;
    row["operation"] = s.operation;
    row["seconds"] = s.seconds / calls;
    row["share"] = s.seconds / elapsed;
    rows.push_back(row);
  }
}

void measure(const Settings& settings, const Model& model, int threads, BenchReport& report) {
  SessionOptions session = settings.session;
  session.threads = threads;
  const auto device = make_device(session);
  const int block_rows = device->make_sweeps(model.config, {})->block_rows();
  describe_device(report, *device);
  report.meta["block_rows"] = block_rows;
  // Where bf16 is emulated, the products are those of fp32. The peak of a GPU: tests/perf/gpu.sh.
  std::optional<MeasuredPeak> peak;
  if (!kernels::names_cuda(session.device)) {
    peak.emplace(threads, session.precision == Precision::kBf16 && kernels::cpu_has_native_bf16(),
                 MeasuredPeak::shapes_of(model.config, block_rows));
  }
  const auto measure_peak = [&] {
    if (peak) peak->measure(kPeakSeconds);
  };
  measure_peak();
  const std::size_t first_row = report.rows.size();
  for (const std::string& mode : settings.modes) {
    const bool training = mode == "train";
    const kernels::SweepOptions options = {
        .training = training, .bf16_residual = !training && settings.session.bf16_residual};
    Encoder<float> encoder(device->host(), device->make_sweeps(model.config, options));
    encoder.set_parameters(model.parameters.data());
    OperationTimes times;
    const auto timed_host = make_timed_backend(device->host(), times);
    std::optional<Encoder<float>> timed;
    if (settings.breakdown) {
      timed.emplace(*timed_host, kernels::make_tiled_sweeps(*timed_host, model.config, options,
                                                            session.block_rows));
      timed->set_parameters(model.parameters.data());
    }
    for (const std::int64_t length : settings.lengths) {
      log_detail(mode + ", " + with_commas(length) + " nt, threads: " + std::to_string(threads));
      require_more_memory(
          encoder.pass_memory(length, 1, 1).host + static_cast<std::uint64_t>(length),
          mode + " of " + with_commas(length) + " nt");
      const std::vector<Token> genome = random_genome(length, kSeed);
      reset_peak_memory();
      const auto make_task = [&](Encoder<float>& e) {
        return training ? training_task(model, e, genome) : forward_task(model, e, genome);
      };
      const Task task = make_task(encoder);
      const double seconds = best_seconds(task.run, settings.repeats);
      const double rate = static_cast<double>(length) / seconds;
      measure_peak();
      report.rows.push_back({{"tokens", length},
                             {"threads", threads},
                             {"mode", mode},
                             {"seconds", seconds},
                             {"nt_per_s", rate},
                             {"flops_per_nt", task.flops_per_nt},
                             {"gflops", rate * task.flops_per_nt * 1e-9},
                             {"peak_gflops", nullptr},
                             {"share_of_peak", nullptr},
                             {"peak_rss_bytes", peak_rss_bytes()}});
      if (timed) {
        break_down(make_task(*timed), times,
                   {{"tokens", length}, {"threads", threads}, {"mode", mode}}, report.more[0].rows);
      }
    }
  }
  if (!peak) return;
  // Against the best of all bursts at this number of threads, before, between and after the rows.
  const MeasuredPeak::Shape s = peak->best_shape();
  report.meta["peak_gflops"].push_back(
      {{"threads", threads},
       {"gflops", peak->best()},
       {"product",
        std::to_string(s.rows) + "x" + std::to_string(s.in) + "x" + std::to_string(s.out)}});
  for (std::size_t i = first_row; i < report.rows.size(); ++i) {
    auto& row = report.rows[i];
    row["peak_gflops"] = peak->best();
    row["share_of_peak"] = row["gflops"].get<double>() / peak->best();
  }
}

}  // namespace

int bench_speed(int argc, char** argv) {
  BenchOptions options;
  Settings settings;
  std::string lengths = "1k,16k,256k", threads = "0", modes = "forward,train";
  CLI::App app;
  prepare_app(
      app, "bench speed",
      "Measures nucleotides a second of inference (forward: log-probabilities of every row) "
      "and training (train: loss and gradient, 15 % of the bases chosen) on a random "
      "sequence, with the share of the peak that the matrix product of oneDNN reaches on "
      "as many threads in the same run.");
  app.add_option("--lengths", lengths, "sequence lengths in nt (default " + lengths + ")")
      ->option_text("SIZE[,SIZE...]");
  app.add_option("-@,--threads", threads,
                 "numbers of worker threads to try; 0 (default): the CPUs of this process")
      ->option_text("INT[,INT...]");
  app.add_option("--mode", modes, "forward, train or both (default " + modes + ")")
      ->option_text("MODE[,MODE]");
  app.add_option("--repeats", settings.repeats, "the best of so many repeats counts (default 3)")
      ->option_text("INT")
      ->check(CLI::Range(1, 1000));
  app.add_flag("--breakdown", settings.breakdown,
               "a second table: CPU time by operation, of a run of its own");
  add_device(app, options.common);
  add_residual(app, options.common);
  add_block_rows(app, options.common);
  add_bench_options(app, options);
  if (!parse_bench(app, argc, argv, options)) return 0;
  settings.lengths = parse_lengths(lengths, false);
  settings.threads = parse_threads(threads);
  settings.modes = parse_modes(modes);
  settings.session = session_options(options.common);
  if (options.common.device == "ref") {
    throw Error(ErrorKind::kUsage,
                "--device ref: the reference is an oracle, its speed means nothing");
  }
  if (settings.breakdown && kernels::names_cuda(options.common.device)) {
    throw Error(ErrorKind::kUsage,
                "--breakdown: of the operations of the CPU, not of --device cuda");
  }

  check_bench_paths(options);
  const Model model = bench_model(options);
  BenchReport report;
  describe_run(report, "m5 bench" + provenance_command(argc, argv).substr(2), model);
  report.meta["device"] = "";
  report.meta["isa"] = "";
  report.meta["precision"] = options.common.precision;
  report.meta["block_rows"] = 0;
  report.meta["cpus"] = available_cpus();
  report.meta["repeats"] = settings.repeats;
  report.meta["peak_rss"] =
      reset_peak_memory() ? "of each row" : "of the process up to the row (no reset allowed here)";
  report.meta["flop_convention"] =
      "matrix products, attention and convolutions, multiply and add as two; training with the "
      "gradients and the recomputation (lib/nn/measured_peak.hpp)";
  report.meta["peak_gflops"] = nlohmann::ordered_json::array();
  if (settings.breakdown) {
    report.more.push_back(
        {"breakdown",
         {{"tokens"}, {"threads"}, {"mode"}, {"operation"}, {"seconds", 4}, {"share", 4}}});
  }
  for (const int n : settings.threads) measure(settings, model, n, report);
  report.write(options.common.output,
               {{"tokens"},
                {"threads"},
                {"mode"},
                {"nt_per_s"},
                {"gflops", 1},
                {"peak_gflops", 1},
                {"share_of_peak", 3},
                {"peak_rss_bytes"}},
               options.json);
  return 0;
}

}  // namespace m5
