// Checks and times of the CUDA device on a GPU; tests/perf/gpu.sh builds and runs it. Prints one
// line for every check that fails, then tables. Ends with 1 where a check failed, with 6 where
// there is no GPU.
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
#include "kernels/cuda/products.hpp"
#include "kernels/cuda/sweeps.hpp"
#include "m5/error.hpp"
#include "pass_checks.hpp"

namespace m5::kernels::cuda {
namespace {

int failures = 0;
bool measured_products = true;
const auto started = std::chrono::steady_clock::now();

double seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
}

std::unique_ptr<Sweeps<float>> make(CudaSetup setup) {
  setup.measured_products = measured_products;
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

struct Preset {
  const char* name;
  ModelConfig config;
};
std::vector<Preset> presets() {  // widths and orders of share/presets
  return {{"nano", config_of(128, 16, 512, 4, 4, 15)},
          {"small", config_of(256, 32, 1024, 8, 6, 15)},
          {"base", config_of(512, 64, 2048, 12, 6, 15)}};
}

CudaSetup setup_of(const ModelConfig& config, bool training, Backend<float>& host,
                   std::int64_t chunk_rows, Fused fused = Fused::kNone) {
  CudaSetup setup;
  setup.config = config;
  setup.options.training = training;
  setup.bf16 = true;
  setup.measured_products = measured_products;
  setup.fused = fused;
  setup.host = &host;
  setup.chunk_rows = chunk_rows;
  return setup;
}

void run_forward(CudaSweeps<bf16>& sweeps, const std::vector<TokenView>& batch) {
  const auto pass = sweeps.begin(batch, 1);
  const int layers = sweeps.config().layers;
  pass->embed(0, true);
  for (int l = 0; l < layers; ++l) pass->layer(l, 0, 0, l + 1 < layers);
  sweeps.device().finish();
}

void run_training(CudaSweeps<bf16>& sweeps, const std::vector<TokenView>& batch,
                  const std::vector<std::int64_t>& rows, std::vector<float>& log_probs,
                  Update& update) {
  const int layers = sweeps.config().layers;
  update.clear_gradient();
  const auto pass = sweeps.begin(batch, layers);
  pass->embed(0, true);
  for (int l = 0; l + 1 < layers; ++l) pass->layer(l, l, l + 1, true);
  pass->head_backward(
      layers - 1, rows, log_probs.data(),
      [](int, std::int64_t, int n, float* p, float* d, float*) {
        for (int i = 0; i < 4 * n; ++i) d[i] = 1e-6f * (std::exp(p[i]) - (i % 4 == 0));
      },
      nullptr);
  for (int l = layers - 1; l >= 0; --l) {
    if (l < layers - 1) pass->query_backward(l, l);
    pass->key_backward(l, l);
  }
  pass->embed_backward();
  update.squared_norm();
  update.apply({.learning_rate = 0,  // the same parameters in every run
                .beta1 = 0.9,
                .beta2 = 0.98,
                .epsilon = 1e-8,
                .weight_decay = 0.05,
                .correction1 = 0.1,
                .correction2 = 0.02,
                .gradient_scale = 1});
  update.use(Update::Slab::kParameters);
}

// Model operations for a nucleotide, as the floor counts them (multiply and add are two).
struct Operations {
  double forward, training;
};
Operations operations(const ModelConfig& c, double asked) {
  const double d = c.dim, attention = 2.0 * c.features() * 9 * c.heads;
  const double ff = 4.0 * d * c.ff_dim;
  const double query = 2 * d * 4 * c.heads + 2 * d * d + ff + attention,
               key = 2 * d * 12 * c.heads + attention;
  const double query_back = 3 * (2 * d * 4 * c.heads + 2 * d * d) + 2.5 * ff + 3 * attention,
               key_back = 3 * 2 * d * 12 * c.heads + 2 * attention;
  const double L = c.layers;
  return {L * (query + key), L * (key + key_back) + (L - 1 + asked) * (query + query_back)};
}

double best_of(int runs, const std::function<void()>& call) {
  call();
  double best = 1e30;
  for (int i = 0; i < runs; ++i) {
    const double begin = seconds();
    call();
    best = std::min(best, seconds() - begin);
  }
  return best;
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

void times(double rate, Backend<float>& host, std::int64_t chunk_rows, double until) {
  std::printf("\n%-6s %9s %-22s %9s %9s %7s %9s   share of the time by kernel\n", "model", "nt",
              "pass", "ms", "Mnt/s", "floor", "GB");
  for (const Preset& preset : presets()) {
    const auto parameters = random_parameters<float>(preset.config, 1);
    for (const std::int64_t length : {std::int64_t{196608}, std::int64_t{2097152}}) {
      const auto tokens = random_tokens(length, 2);
      const std::vector<TokenView> batch{{tokens.data(), length, true, 0}};
      std::vector<std::int64_t> rows;
      for (std::int64_t row = 0; row < length; row += 7) rows.push_back(row);
      const Operations work = operations(preset.config, 1.0 / 7);
      for (const char* pass : {"forward", "fused", "fused, wgmma", "training", "training, fused",
                               "training, fused, wgmma"}) {
        const bool training = std::strstr(pass, "training");
        const Fused fused = std::strstr(pass, "wgmma")   ? Fused::kWarpgroups
                            : std::strstr(pass, "fused") ? Fused::kWarps
                                                         : Fused::kNone;
        const int dim = preset.config.dim, ff = preset.config.ff_dim;
        if (fused == Fused::kWarps && !fuses_layers(dim, ff)) continue;
        if (seconds() > until) {
          std::printf("(no time is left for %s)\n", preset.name);
          return;
        }
        try {
          CudaSweeps<bf16> sweeps(setup_of(preset.config, training, host, chunk_rows, fused));
          if (fused == Fused::kWarpgroups && !takes_warpgroups(sweeps.device(), dim, ff) &&
              !takes_norm_gelu(sweeps.device(), dim, ff)) {
            continue;
          }
          sweeps.load(parameters.data());
          std::vector<float> log_probs(rows.size() * 4);
          const std::vector<UpdatePart> parts{
              {.offset = 0, .size = sweeps.table().total, .decay = true}};
          ParameterState state;
          state.parameters = parameters;
          const auto update = sweeps.make_update(parts, state);  // null without training
          const auto once = [&] {
            if (training) {
              run_training(sweeps, batch, rows, log_probs, *update);
            } else {
              run_forward(sweeps, batch);
            }
          };
          const double time = best_of(length > 1000000 ? 2 : 4, once);
          const PassSize size{length, 1, 1, training ? preset.config.layers : 1};
          const double bytes =
              static_cast<double>(sweeps.ready_memory().device + sweeps.pass_memory(size).device +
                                  sweeps.update_memory(parts, false).device);
          const double floor =
              (training ? work.training : work.forward) * static_cast<double>(length) / rate;
          std::printf("%-6s %9lld %-22s %9.2f %9.2f %6.1f%% %9.2f  ", preset.name,
                      static_cast<long long>(length), pass, time * 1e3,
                      static_cast<double>(length) / time / 1e6, 100 * floor / time, bytes / 1e9);
          sweeps.device().profile(true);
          once();
          const auto kernels = sweeps.device().report();
          sweeps.device().profile(false);
          double all = 0;
          for (const KernelTime& k : kernels) all += k.milliseconds;
          std::printf(" %.2f ms in kernels:", all);
          for (const KernelTime& k : kernels) {
            if (k.milliseconds < 0.01 * all) continue;
            std::printf(" %s %.1f%%", k.name.c_str(), 100 * k.milliseconds / all);
          }
          std::printf("\n");
        } catch (const std::exception& e) {
          std::printf("%-6s %9lld: %s\n", preset.name, static_cast<long long>(length), e.what());
        }
        std::fflush(stdout);
      }
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
  CudaSweeps<bf16> sweeps(setup_of(config, false, host, kChunkRows));
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

int run(int argc, char** argv) {
  std::int64_t chunk_rows = kChunkRows;
  double budget = 75;
  bool only_times = false, only_checks = false, few = false;
  for (int i = 1; i < argc; ++i) {
    if (!std::strncmp(argv[i], "--chunk=", 8)) chunk_rows = std::atoll(argv[i] + 8);
    if (!std::strncmp(argv[i], "--seconds=", 10)) budget = std::atof(argv[i] + 10);
    if (!std::strcmp(argv[i], "--times")) only_times = true;
    if (!std::strcmp(argv[i], "--checks")) only_checks = true;
    if (!std::strcmp(argv[i], "--few")) few = true;
    if (!std::strcmp(argv[i], "--unmeasured")) measured_products = false;
  }
  const auto host = make_ref_backend<float>();
  Device device(0);
  const auto finished = [] {
    std::printf("%s, %.1f s\n", failures == 0 ? "all checks passed" : "CHECKS FAILED", seconds());
    return failures > 0;
  };
  if (few) {  // each kernel and each pass once: under compute-sanitizer
    report("kernels", kernel_checks(device));
    passes(0, 1500, 1500);
    return finished();
  }
  const double rate = cublas_rate(device), copy = copy_rate(device);
  std::printf(
      "%s: cuBLAS bf16 8192^3 %.0f TFLOP/s, copy %.2f TB/s, chunks of %lld rows  [%.1f s]\n",
      device.name().c_str(), rate / 1e12, copy / 1e12, static_cast<long long>(chunk_rows),
      seconds());
  if (!only_times) {
    report("kernels", kernel_checks(device));
    passes(20, 40000, 200000);
    if (device.warpgroups()) {
      expect(
          warpgroups_agree(device, 128, 512, 20000) && warpgroups_agree(device, 256, 1024, 20000),
          "feed-forward by warpgroups and by single warps agree, five runs bit-equal");
      expect(
          norm_gelu_agrees(device, 512, 512, 20000),
          "norm, product and gelu by warpgroups: rows bit-equal wherever they lie, in four runs");
    }
    try {
      beyond_2_31(*host);
    } catch (const std::exception& e) {
      expect(false, std::string("beyond 2^31 elements: ") + e.what());
    }
  }
  if (only_checks) return finished();
  try {
    fused_times(device, rate, copy, measured_products);
  } catch (const std::exception& e) {
    expect(false, std::string("times of fused kernels: ") + e.what());
  }
  try {
    attention_times(device, rate, copy);
  } catch (const std::exception& e) {
    expect(false, std::string("times of the attention: ") + e.what());
  }
  times(rate, *host, chunk_rows, budget);
  return finished();
}

}  // namespace
}  // namespace m5::kernels::cuda

int main(int argc, char** argv) {
  try {
    return m5::kernels::cuda::run(argc, argv);
  } catch (const std::exception& e) {
    std::printf("gpu_check: %s\n", e.what());
    return 6;
  }
}
