// Checks and times of the CUDA device on a GPU; tests/perf/gpu.sh builds and runs it. Prints one
// line for every check that fails, then tables. Ends with 1 where a check failed, 2 where an option
// is wrong, 6 where there is no GPU.
//   gpu_check [--checks | --few | --times | --table] [--rows=FILE] [--chunk=ROWS] [--seconds=LIMIT]
// --checks: no times. --few: each kernel and each pass once, for compute-sanitizer. --times: no
// checks. --table: of the checks each once, then what the rows of the table need alone. --rows:
// where these go (table.hpp). --seconds: for the times of passes, 120 where it is not given; what
// the table needs comes first.
//   gpu_check --pass=forward|training --preset=NAME --nt=LENGTH
// times one pass as the program runs it, and prints its seconds.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>

#include "attention_times.hpp"
#include "fused_times.hpp"
#include "kernel_checks.hpp"
#include "kernel_times.hpp"
#include "kernels/cuda/products.hpp"
#include "kernels/cuda/sweeps.hpp"
#include "m5/error.hpp"
#include "pass_checks.hpp"
#include "pass_times.hpp"
#include "table.hpp"

namespace m5::kernels::cuda {
namespace {

int failures = 0;
const auto started = std::chrono::steady_clock::now();

double seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
}

std::unique_ptr<Sweeps<float>> make(CudaSetup setup) {
  setup.measured_products = true;
  if (setup.bf16) return std::make_unique<CudaSweeps<bf16>>(setup);
  return std::make_unique<CudaSweeps<float>>(setup);
}

template <Fused kFused>
std::unique_ptr<Sweeps<float>> make_fused(CudaSetup setup) {
  setup.fused = kFused;
  return make(setup);
}
constexpr auto fused_makers = {make_fused<Fused::kWarps>, make_fused<Fused::kWarpgroups>};

void report(const char* what, const std::vector<Check>& checks) {
  int bad = 0;
  const Check* worst[2] = {nullptr, nullptr};  // fp32, bf16
  for (const Check& check : checks) {
    const Check*& at = worst[check.name.find("bf16") != std::string::npos];
    if (!at || !(check.error / check.tolerance <= at->error / at->tolerance)) {
      if (check.tolerance > 0) at = &check;
    }
    if (check.ok()) continue;
    ++bad;
    std::printf("FAILED  %s: %.3g, allowed are %.3g\n", check.name.c_str(), check.error,
                check.tolerance);
  }
  failures += bad;
  std::printf("%-8s %zu of %zu checks passed", what, checks.size() - static_cast<std::size_t>(bad),
              checks.size());
  for (const Check* w : worst) {
    if (w)
      std::printf("; nearest its bound: %s %.2g of %.2g", w->name.c_str(), w->error, w->tolerance);
  }
  std::printf("  [%.1f s]\n", seconds());
  std::fflush(stdout);
}

void expect(bool ok, const std::string& what) {
  std::printf("%-8s %s  [%.1f s]\n", ok ? "ok" : "FAILED", what.c_str(), seconds());
  std::fflush(stdout);
  failures += !ok;
}

// runs: of each that must give the same bits; 0: none of those.
void passes(int runs, std::int64_t gradient_rows, std::int64_t poly_a_rows) {
  std::vector<Check> all;
  const auto add = [&](const std::string& name, const std::function<std::vector<Check>()>& call) {
    try {
      const auto checks = call();
      all.insert(all.end(), checks.begin(), checks.end());
    } catch (const std::exception& e) {
      expect(false, name + ": " + e.what());
    }
  };
  std::vector<PassCase> cases = pass_cases();
  for (const PassCase& c : parts_cases()) cases.push_back(c);
  for (const PassCase& c : long_cases(gradient_rows)) cases.push_back(c);
  for (const PassCase& c : cases) {
    add(c.name, [&] { return pass_checks(c, {false, true}, make); });
  }
  for (const PassCase& c : fused_cases()) {
    for (const auto of : fused_makers) add(c.name, [&] { return pass_checks(c, {true}, of); });
  }
  for (const bool narrow : {false, true}) {
    add("circular poly-A", [&] { return poly_a_checks(poly_a_rows, narrow, make); });
  }
  if (runs > 0) add("many chunks", [] { return many_chunks_checks(make); });
  report("passes", all);
  double worst = 0;
  if (runs == 0) return;
  for (const PassCase& c : pass_cases()) {
    for (const bool narrow : {false, true}) worst = std::max(worst, run_to_run(c, narrow, make, 3));
  }
  worst = std::max(worst, run_to_run(pass_cases()[1], true, make, runs));
  for (const PassCase& c : fused_cases()) {
    for (const auto of : fused_makers) worst = std::max(worst, run_to_run(c, true, of, runs));
  }
  expect(worst == 0, std::to_string(runs) + " runs give the same bits");
  double alone = 0;
  for (const PassCase& c : pass_cases()) {
    for (const bool narrow : {false, true}) alone = std::max(alone, company(c, narrow, make));
  }
  for (const PassCase& c : fused_cases()) {
    for (const auto of : fused_makers) alone = std::max(alone, company(c, true, of));
  }
  expect(alone == 0, "other chunks and no company give the same bits (difference " +
                         std::to_string(alone) + ")");
}

double cublas_rate(Device& device) {
  constexpr std::int64_t n = 8192;
  Array<bf16> a(device, n * n, "a"), b(device, n * n, "b"), c(device, n * n, "c");
  std::vector<bf16> values(static_cast<std::size_t>(n * n));
  std::mt19937 random(1);
  for (bf16& v : values) v = from_float<bf16>(static_cast<float>(random()) * 0x1p-31f - 1);
  device.upload(a.data(), values.data(), a.bytes());
  std::reverse(values.begin(), values.end());
  device.upload(b.data(), values.data(), b.bytes());
  Products products(device, n);
  constexpr int kRepeat = 10;
  const double time = best_of(3, [&] {
    for (int i = 0; i < kRepeat; ++i) {
      products.forward<bf16>(n, n, n, a.data(), b.data(), nullptr, nullptr, c.data());
    }
    device.finish();
  });
  return 2.0 * n * n * n * kRepeat / time;
}

double copy_rate(Device& device) {
  constexpr std::int64_t bytes = std::int64_t{1} << 31;
  Array<unsigned char> a(device, bytes, "a"), b(device, bytes, "b");
  device.clear(a.data(), a.bytes());
  const double time = best_of(3, [&] {
    for (int i = 0; i < 4; ++i) device.copy(b.data(), a.data(), a.bytes());
    device.finish();
  });
  return 2.0 * 4 * static_cast<double>(bytes) / time;
}

struct Bars {
  double share = 0;   // of the floor, per cent, at least; 0: no row of the table
  double memory = 0;  // GB of the GPU, at most
};
struct TimedPass {
  PassKind kind;
  Bars bars;
};
constexpr std::int64_t kShort = 196608, kLong = 2097152, kGenome = 16777216;
constexpr std::initializer_list<TimedPass> kTablePasses = {
    {{"nano", false, kLong}, {.share = 30}},
    {{"small", false, kLong}, {.share = 50}},
    {{"base", false, kLong}, {.share = 60}},
    {{"nano", true, kLong}, {.share = 20}},
    {{"small", true, kLong}, {.share = 35, .memory = 40}},
    {{"base", true, kShort}, {.share = 45}},
    {{"small", false, kGenome}, {.memory = 40}},
};
constexpr std::initializer_list<TimedPass> kOtherPasses = {
    {{"nano", false, kShort}, {}}, {{"small", false, kShort}, {}}, {{"base", false, kShort}, {}},
    {{"nano", true, kShort}, {}},  {{"small", true, kShort}, {}},  {{"base", true, kLong}, {}},
};

struct Rates {
  double products, copy;  // operations and bytes a second
};

// A line for one pass, and its rows of the table.
void time_one(const TimedPass& pass, const Way& way, const Rates& rates, Backend<float>& host,
              std::int64_t chunk_rows, double until, Table& table) {
  const std::string name = pass.kind.name();
  std::string why = "no time is left";
  if (seconds() <= until) {
    try {
      const PassTime time = time_pass(pass.kind, way, host, chunk_rows, true);
      const double share = time.operations / rates.products / time.seconds;
      const double planned = 1e-9 * static_cast<double>(time.planned),
                   allocated = 1e-9 * static_cast<double>(time.allocated),
                   of_gpu = 1e-9 * static_cast<double>(time.of_gpu);
      std::printf("%-30s %-20s %9.2f %8.2f %6.1f%% %7.2f %9.2f %7.2f   %s\n", name.c_str(),
                  way.name().c_str(), time.seconds * 1e3,
                  1e-6 * static_cast<double>(pass.kind.nt) / time.seconds, 100 * share, planned,
                  allocated, of_gpu, time.kernels.c_str());
      std::fflush(stdout);
      if (pass.bars.share > 0) table.share(name, share, pass.bars.share);
      if (pass.bars.memory > 0) {
        char note[80];
        std::snprintf(note, sizeof note, "allocated %.2f, planned %.2f", allocated, planned);
        table.memory(name, 1e9 * of_gpu, pass.bars.memory, note);
      }
      return;
    } catch (const std::exception& e) {
      why = e.what();
    }
  }
  std::printf("%-30s %-20s %s\n", name.c_str(), way.name().c_str(), why.c_str());
  std::fflush(stdout);
  if (pass.bars.share > 0) table.no_share(name, pass.bars.share, why);
  if (pass.bars.memory > 0) table.no_memory(name, pass.bars.memory, why);
}

// What a user gets, then the other ways, for whoever chooses.
void times(Device& device, const Rates& rates, Backend<float>& host, std::int64_t chunk_rows,
           double until, bool only_table, Table& table) {
  std::printf(
      "\nforward: embedding and layers of all rows, without final norm and head\n"
      "training: with the loss of every 7th row, and AdamW\n"
      "floor: operations of the model at the rate of cuBLAS\n"
      "GB: planned; allocated, of m5, at its peak; GPU, not free at the peak: context and code, "
      "too\n"
      "kernels: chosen, with measured products in training: as the program runs\n");
  std::printf("%-30s %-20s %9s %8s %7s %7s %9s %7s   share of the time by kernel\n", "pass",
              "kernels", "ms", "Mnt/s", "floor", "planned", "allocated", "GPU");
  const auto one = [&](const TimedPass& pass, const Way& way) {
    time_one(pass, way, rates, host, chunk_rows, until, table);
  };
  for (const TimedPass& pass : kTablePasses) one(pass, program_way(pass.kind.training));
  if (only_table) return;
  for (const TimedPass& pass : kOtherPasses) one(pass, program_way(pass.kind.training));
  for (const auto& passes : {kTablePasses, kOtherPasses}) {
    for (const TimedPass& pass : passes) {
      if (pass.kind.nt == kGenome) continue;
      for (const Way& way : other_ways(device, pass.kind.preset)) one({pass.kind, {}}, way);
    }
  }
}

// A residual stream of more than 2^31 elements: a sequence that repeats a period has the same
// values at its end as at its beginning, and a sequence behind it those that it has alone.
void beyond_2_31(Backend<float>& host) {
  const ModelConfig config = config_of(128, 16, 512, 2, 4, 15);
  const std::int64_t period = 4096, length = period * 4200;  // x 128 columns = 2.2e9
  const auto unit = random_tokens(period, 5), small = random_tokens(3000, 6);
  std::vector<Token> tokens(static_cast<std::size_t>(length));
  for (std::size_t i = 0; i < tokens.size(); ++i) tokens[i] = unit[i % unit.size()];
  CudaSweeps<bf16> sweeps(setup_of(config, false, host, kChunkRows, program_way(false)));
  sweeps.load(random_parameters<float>(config, 1).data());
  const auto log_probs = [&](const std::vector<TokenView>& batch,
                             const std::vector<std::int64_t>& rows) {
    const auto pass = sweeps.begin(batch, 1);
    pass->embed(0, true);
    pass->layer(0, 0, 0, true);
    std::vector<float> p(rows.size() * 4);
    pass->head(0, rows, p.data(), {});
    return p;
  };
  std::vector<std::int64_t> rows, own;
  for (std::int64_t i = 0; i < period; ++i) rows.push_back(i);
  for (std::int64_t i = 0; i < period; ++i) rows.push_back(length - period + i);
  for (std::int64_t i = 0; i < 3000; ++i) {
    rows.push_back(length + i);
    own.push_back(i);
  }
  const TokenView big{tokens.data(), length, true, 0};
  TokenView behind{small.data(), 3000, true, 1};
  const std::vector<float> all = log_probs({big, behind}, rows);
  behind.context = 0;
  const std::vector<float> alone = log_probs({behind}, own);
  const std::size_t n = static_cast<std::size_t>(period) * 4;
  expect(std::equal(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(n),
                    all.begin() + static_cast<std::ptrdiff_t>(n)),
         std::to_string(length) + " nt: the last period is as the first");
  expect(std::equal(alone.begin(), alone.end(), all.begin() + static_cast<std::ptrdiff_t>(2 * n)),
         "a sequence behind 2^31 elements is as alone");
}

struct Options {
  std::int64_t chunk_rows = kChunkRows, nt = 0;
  double budget = 120;
  bool times = false, checks = false, few = false, table = false;
  std::string rows, pass, preset = "small";
};
Options read(int argc, char** argv) {
  Options o;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    const auto value = [&](const char* name) -> const char* {
      const std::size_t n = std::strlen(name);
      return argument.compare(0, n, name) == 0 ? argv[i] + n : nullptr;
    };
    if (const char* chunk = value("--chunk="))
      o.chunk_rows = std::atoll(chunk);
    else if (const char* limit = value("--seconds="))
      o.budget = std::atof(limit);
    else if (const char* file = value("--rows="))
      o.rows = file;
    else if (const char* pass = value("--pass="))
      o.pass = pass;
    else if (const char* preset = value("--preset="))
      o.preset = preset;
    else if (const char* nt = value("--nt="))
      o.nt = std::atoll(nt);
    else if (argument == "--times")
      o.times = true;
    else if (argument == "--checks")
      o.checks = true;
    else if (argument == "--few")
      o.few = true;
    else if (argument == "--table")
      o.table = true;
    else
      throw Error(ErrorKind::kUsage, argument + " is no option of gpu_check");
  }
  return o;
}

int one_pass(const Options& o, Backend<float>& host) {
  const PassKind kind{o.preset.c_str(), o.pass == "training", o.nt};
  if ((o.pass != "forward" && o.pass != "training") || o.nt < 1) {
    throw Error(ErrorKind::kUsage, "--pass=forward or --pass=training, and --nt=LENGTH");
  }
  const PassTime time = time_pass(kind, program_way(kind.training), host, o.chunk_rows, false);
  std::printf("%s: %.9f s\n", kind.name().c_str(), time.seconds);
  return 0;
}

void all_checks(Device& device, Backend<float>& host, bool once) {
  report("kernels", kernel_checks(device));
  for (const bool narrow : {false, true}) report("cases", case_checks(device, narrow));
  passes(once ? 0 : 20, 40000, 200000);
  if (device.warpgroups()) {
    expect(warpgroups_agree(device, 128, 512, 20000) && warpgroups_agree(device, 256, 1024, 20000),
           "feed-forward by warpgroups and by single warps agree, five runs bit-equal");
    expect(norm_gelu_agrees(device, 512, 512, 20000),
           "norm, product and gelu by warpgroups: rows bit-equal wherever they lie, in four runs");
  }
  if (once) return;
  try {
    beyond_2_31(host);
  } catch (const std::exception& e) {
    expect(false, std::string("beyond 2^31 elements: ") + e.what());
  }
}

int run(int argc, char** argv) {
  const Options o = read(argc, argv);
  const auto host = make_ref_backend<float>();
  if (!o.pass.empty()) return one_pass(o, *host);
  Table table(o.rows);
  Device device(0);
  const auto finished = [] {
    std::printf("%s, %.1f s\n", failures == 0 ? "all checks passed" : "CHECKS FAILED", seconds());
    return failures > 0;
  };
  if (o.few) {  // under compute-sanitizer
    report("kernels", kernel_checks(device));
    passes(0, 1500, 1500);
    return finished();
  }
  const Rates rates{cublas_rate(device), copy_rate(device)};
  std::printf(
      "%s: cuBLAS bf16 8192^3 %.0f TFLOP/s, copy %.2f TB/s, chunks of %lld rows  [%.1f s]\n",
      device.name().c_str(), rates.products / 1e12, rates.copy / 1e12,
      static_cast<long long>(o.chunk_rows), seconds());
  if (!o.times) all_checks(device, *host, o.table);
  if (o.checks) return finished();
  const auto part = [](const char* what, auto call) {
    try {
      call();
    } catch (const std::exception& e) {
      expect(false, std::string("times of ") + what + ": " + e.what());
    }
  };
  if (!o.table) {
    part("fused kernels", [&] { fused_times(device, rates.products, rates.copy, true); });
  }
  part("the attention", [&] { attention_times(device, rates.products, rates.copy, table); });
  times(device, rates, *host, o.chunk_rows, seconds() + o.budget, o.table, table);
  return finished();
}

}  // namespace
}  // namespace m5::kernels::cuda

int main(int argc, char** argv) {
  try {
    return m5::kernels::cuda::run(argc, argv);
  } catch (const m5::Error& e) {
    std::printf("gpu_check: %s\n", e.what());
    return e.kind() == m5::ErrorKind::kUsage ? 2 : 6;
  } catch (const std::exception& e) {
    std::printf("gpu_check: %s\n", e.what());
    return 6;
  }
}
