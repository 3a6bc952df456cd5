#include "pass_times.hpp"

#include <cmath>
#include <cstdio>
#include <cstring>
#include <functional>

#include "kernel_times.hpp"
#include "kernels/cuda/sweeps.hpp"
#include "m5/error.hpp"
#include "pass_checks.hpp"

namespace m5::kernels::cuda {
namespace {

ModelConfig config_of_preset(const char* name) {  // widths and orders of share/presets
  if (!std::strcmp(name, "nano")) return config_of(128, 16, 512, 4, 4, 15);
  if (!std::strcmp(name, "small")) return config_of(256, 32, 1024, 8, 6, 15);
  if (!std::strcmp(name, "base")) return config_of(512, 64, 2048, 12, 6, 15);
  throw Error(ErrorKind::kUsage, std::string("no preset ") + name + " here");
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
  sweeps.device().finish();
}

constexpr int kAsked = 7;  // in training, of every so many rows one

// Of a nucleotide, as the floor counts them.
double operations(const ModelConfig& c, bool training) {
  const double d = c.dim, attention = 2.0 * c.features() * 9 * c.heads;
  const double ff = 4.0 * d * c.ff_dim;
  const double query = 2 * d * 4 * c.heads + 2 * d * d + ff + attention,
               key = 2 * d * 12 * c.heads + attention;
  const double query_back = 3 * (2 * d * 4 * c.heads + 2 * d * d) + 2.5 * ff + 3 * attention,
               key_back = 3 * 2 * d * 12 * c.heads + 2 * attention;
  const double L = c.layers;
  if (!training) return L * (query + key);
  return L * (key + key_back) + (L - 1 + 1.0 / kAsked) * (query + query_back);
}

void check(cudaError_t status) {
  if (status != cudaSuccess) throw Error(ErrorKind::kResource, cudaGetErrorString(status));
}

// Of GPU 0, since it was made.
class PeakMemory {
 public:
  PeakMemory() {
    check(cudaSetDevice(0));
    check(cudaDeviceSynchronize());
    check(cudaDeviceGetDefaultMemPool(&pool_, 0));
    check(cudaMemPoolTrimTo(pool_, 0));
    std::uint64_t none = 0;  // from here on
    check(cudaMemPoolSetAttribute(pool_, cudaMemPoolAttrUsedMemHigh, &none));
  }
  std::uint64_t allocated() const {
    std::uint64_t bytes = 0;
    check(cudaMemPoolGetAttribute(pool_, cudaMemPoolAttrUsedMemHigh, &bytes));
    return bytes;
  }
  static std::uint64_t of_gpu() {
    std::size_t free = 0, total = 0;
    check(cudaMemGetInfo(&free, &total));
    return total - free;
  }

 private:
  cudaMemPool_t pool_ = nullptr;
};

std::string shares(CudaSweeps<bf16>& sweeps, const std::function<void()>& once) {
  sweeps.device().profile(true);
  once();
  const auto kernels = sweeps.device().report();
  sweeps.device().profile(false);
  double all = 0;
  for (const KernelTime& k : kernels) all += k.milliseconds;
  char text[80];
  std::snprintf(text, sizeof text, "%.2f ms in kernels:", all);
  std::string line = text;
  for (const KernelTime& k : kernels) {
    if (k.milliseconds < 0.01 * all) continue;
    std::snprintf(text, sizeof text, " %s %.1f%%", k.name.c_str(), 100 * k.milliseconds / all);
    line += text;
  }
  return line;
}

}  // namespace

std::string PassKind::name() const {
  return std::string(training ? "training, " : "forward, ") + preset + ", " + std::to_string(nt) +
         " nt";
}

std::string Way::name() const {
  const char* of = fused == Fused::kChosen  ? "chosen"
                   : fused == Fused::kNone  ? "separate"
                   : fused == Fused::kWarps ? "warps"
                                            : "warpgroups";
  return std::string(of) + (measured ? ", measured" : "");
}

Way program_way(bool training) { return {Fused::kChosen, training}; }

std::vector<Way> other_ways(const Device& device, const char* preset) {
  const ModelConfig config = config_of_preset(preset);
  const int dim = config.dim, ff = config.ff_dim;
  std::vector<Way> ways;
  for (const bool measured : {false, true}) {
    ways.push_back({Fused::kNone, measured});
    if (fuses_layers(dim, ff)) ways.push_back({Fused::kWarps, measured});
    if (takes_warpgroups(device, dim, ff) || takes_norm_gelu(device, dim, ff)) {
      ways.push_back({Fused::kWarpgroups, measured});
    }
  }
  return ways;
}

CudaSetup setup_of(const ModelConfig& config, bool training, Backend<float>& host,
                   std::int64_t chunk_rows, const Way& way) {
  CudaSetup setup;
  setup.config = config;
  setup.options.training = training;
  setup.bf16 = true;
  setup.measured_products = way.measured;
  setup.fused = way.fused;
  setup.host = &host;
  setup.chunk_rows = chunk_rows;
  return setup;
}

PassTime time_pass(const PassKind& kind, const Way& way, Backend<float>& host,
                   std::int64_t chunk_rows, bool kernels) {
  const ModelConfig config = config_of_preset(kind.preset);
  const auto parameters = random_parameters<float>(config, 1);
  const auto tokens = random_tokens(kind.nt, 2);
  const std::vector<TokenView> batch{{tokens.data(), kind.nt, true, 0}};
  std::vector<std::int64_t> rows;
  for (std::int64_t row = 0; row < kind.nt; row += kAsked) rows.push_back(row);
  std::vector<float> log_probs(rows.size() * 4);

  const PeakMemory memory;
  CudaSweeps<bf16> sweeps(setup_of(config, kind.training, host, chunk_rows, way));
  sweeps.load(parameters.data());
  const std::vector<UpdatePart> parts{{.offset = 0, .size = sweeps.table().total, .decay = true}};
  ParameterState state;
  state.parameters = parameters;
  const auto update = sweeps.make_update(parts, state);  // null without training
  const std::function<void()> once = [&] {
    if (kind.training) {
      run_training(sweeps, batch, rows, log_probs, *update);
    } else {
      run_forward(sweeps, batch);
    }
  };
  PassTime time;
  time.seconds = best_of(kind.nt > 1000000 ? 2 : 4, once);
  time.operations = operations(config, kind.training) * static_cast<double>(kind.nt);
  const PassSize size{kind.nt, 1, 1, kind.training ? config.layers : 1};
  time.planned = sweeps.ready_memory().device + sweeps.pass_memory(size).device +
                 sweeps.update_memory(parts, false).device;
  time.allocated = memory.allocated();
  time.of_gpu = PeakMemory::of_gpu();
  if (kernels) time.kernels = shares(sweeps, once);
  return time;
}

}  // namespace m5::kernels::cuda
