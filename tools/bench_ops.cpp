// m5 bench ops: every operation of the backend at the shapes of the presets, one block of rows on
// one thread, beside the measured peak of that thread.
#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include "base/log.hpp"
#include "kernels/cases.hpp"
#include "kernels/devices.hpp"
#include "m5/error.hpp"
#include "nn/device.hpp"
#include "nn/measured_peak.hpp"
#include "tools/bench_report.hpp"

namespace m5 {
namespace {

// The time that this thread had the CPU: the machine may have other users, of which one thread
// would else see the more the longer a batch is.
constexpr auto kTime = MeasuredPeak::Time::kThreadCpu;
constexpr double kBatchSeconds = 0.02, kBurstSeconds = 0.02;

// Bursts of the matrix product that goes best, as many as there are rows to measure and one more.
class Peak {
 public:
  explicit Peak(bool bf16) {
    const std::vector<MeasuredPeak::Shape> shapes = {
        {256, 128, 512}, {256, 512, 128}, {256, 256, 1024}, {256, 1024, 256}, {1024, 256, 1024}};
    MeasuredPeak all(1, bf16, shapes);
    all.measure(kBurstSeconds, kTime);
    all.measure(kBurstSeconds, kTime);
    shape_ = all.best_shape();
    best_.emplace(1, bf16, std::vector<MeasuredPeak::Shape>{shape_});
    burst();
  }

  double burst() { return best_->measure(kBurstSeconds, kTime); }
  double best() const { return best_->best(); }
  std::string product() const {
    return std::to_string(shape_.rows) + "x" + std::to_string(shape_.in) + "x" +
           std::to_string(shape_.out);
  }

 private:
  MeasuredPeak::Shape shape_;
  std::optional<MeasuredPeak> best_;
};

// Seconds of one run of the operation: the best batch.
double best_seconds(kernels::Backend<float>& backend, const kernels::Run& run, int repeats) {
  double best = std::numeric_limits<double>::infinity();
  // As the encoder calls operations: for_tiles sets the worker's thread up.
  backend.for_tiles(1, [&](int, std::int64_t) {
    const auto batch = [&](std::int64_t calls) {
      const double start = MeasuredPeak::now(kTime);
      for (std::int64_t i = 0; i < calls; ++i) run();
      return MeasuredPeak::now(kTime) - start;
    };
    std::int64_t calls = 1;
    double elapsed = batch(calls);  // also operands into the cache
    while (elapsed < kBatchSeconds) {
      calls *= 2;
      elapsed = batch(calls);
    }
    for (int repeat = 0; repeat < repeats; ++repeat) {
      best = std::min(best, batch(calls) / static_cast<double>(calls));
    }
  });
  return best;
}

bool multiplies_bf16(const kernels::Case& c) { return c.operation.starts_with("linear"); }

}  // namespace

int bench_ops(int argc, char** argv) {
  BenchOptions options;
  options.common.host_alone = true;
  std::string filter;
  int repeats = 5;
  CLI::App app;
  prepare_app(app, "bench ops",
              "Measures every operation of the encoder at the shapes of the presets, on one block "
              "of rows and one thread, with the share of the peak that the matrix product of "
              "oneDNN reaches on that thread in the same run.");
  app.add_option("--filter", filter, "only operations whose OPERATION/SHAPE contains this text")
      ->option_text("TEXT");
  app.add_option("--repeats", repeats, "the best of so many batches counts (default 5)")
      ->option_text("INT")
      ->check(CLI::Range(1, 1000));
  add_device(app, options.common);
  add_bench_output(app, options);
  if (!parse_bench(app, argc, argv, options)) return 0;

  std::vector<kernels::Case> cases = kernels::operation_cases(kernels::CaseSet::kBenchmark);
  std::erase_if(cases, [&](const kernels::Case& c) {
    return (c.operation + "/" + c.shape).find(filter) == std::string::npos;
  });
  if (cases.empty()) {
    throw Error(ErrorKind::kUsage, "--filter: no operation has '" + filter + "' in its name");
  }
  SessionOptions session = session_options(options.common);
  session.threads = 1;
  require_writable(options.common.output);
  const auto device = make_device(session);
  kernels::Backend<float>& backend = device->host();
  const bool bf16 = session.precision == Precision::kBf16 && session.device != "ref";

  BenchReport report;
  describe_run(report, "m5 bench" + provenance_command(argc, argv).substr(2));
  describe_device(report, *device);
  report.meta["threads"] = 1;
  report.meta["repeats"] = repeats;
  report.meta["time"] = "CPU time of the thread, best batch of at least 20 ms";
  report.meta["flop_convention"] =
      "multiply and add as two; attention 2 F (dv + 1) H a row for accumulate and query, twice "
      "that for their backward passes, monomials not counted (lib/nn/measured_peak.hpp)";
  Peak fp32(false);
  std::optional<Peak> half;
  if (bf16) half.emplace(kernels::cpu_has_native_bf16());
  const auto peak_of = [&](const kernels::Case& c) -> Peak& {
    return bf16 && multiplies_bf16(c) ? *half : fp32;
  };

  for (const kernels::Case& c : cases) {
    log_detail(c.name());
    kernels::Memory<float> memory(c, backend,
                                  kernels::initial_values(c, kernels::Rounding::kFloat));
    const kernels::Run run = c.prepare(backend, memory);
    Peak& peak = peak_of(c);
    const double before = peak.burst();
    const double seconds = best_seconds(backend, run, repeats);
    const double after = peak.burst();
    report.rows.push_back({{"operation", c.operation},
                           {"shape", c.shape},
                           {"rows", c.rows},
                           {"ns_per_row", seconds * 1e9 / static_cast<double>(c.rows)},
                           {"gflops", c.flops / seconds * 1e-9},
                           {"peak_now_gflops", std::max(before, after)},
                           {"peak_gflops", 0.0},
                           {"share_of_peak", 0.0}});
  }
  // Against the best of all bursts; peak_now_gflops shows a machine that was slower at the time.
  for (std::size_t i = 0; i < cases.size(); ++i) {
    auto& row = report.rows[i];
    row["peak_gflops"] = peak_of(cases[i]).best();
    row["share_of_peak"] = row["gflops"].get<double>() / peak_of(cases[i]).best();
  }
  report.meta["peak_gflops"] = nlohmann::ordered_json::array();
  report.meta["peak_gflops"].push_back(
      {{"precision", "fp32"}, {"gflops", fp32.best()}, {"product", fp32.product()}});
  if (half) {
    report.meta["peak_gflops"].push_back(
        {{"precision", "bf16"}, {"gflops", half->best()}, {"product", half->product()}});
  }
  report.write(options.common.output,
               {{"operation"},
                {"shape"},
                {"rows"},
                {"ns_per_row", 2},
                {"gflops", 1},
                {"peak_now_gflops", 1},
                {"peak_gflops", 1},
                {"share_of_peak", 3}},
               options.json);
  return 0;
}

}  // namespace m5
