#include "m5/session.hpp"

#include <cmath>
#include <utility>

#include "base/system.hpp"
#include "m5/error.hpp"
#include "nn/device.hpp"
#include "nn/encoder.hpp"

namespace m5 {

struct Session::Impl {
  Impl(const Model& model, const SessionOptions& options)
      : config(model.config),
        backend(make_backend(options.device, options.threads, options.precision)),
        encoder(config, *backend, false, options.block_rows, options.bf16_residual) {
    encoder.set_parameters(model.parameters.data());
  }
  ModelConfig config;
  std::unique_ptr<kernels::Backend<float>> backend;
  Encoder<float> encoder;
};

Session::Session(const Model& model, const SessionOptions& options)
    : impl_(std::make_unique<Impl>(model, options)) {}
Session::~Session() = default;

const ModelConfig& Session::config() const { return impl_->config; }
int Session::threads() const { return impl_->backend->workers(); }
std::string Session::device_name() const { return impl_->backend->name(); }

void Session::log_probs(std::span<const TokenView> sequences, std::span<const std::int64_t> rows,
                        float* log_probs) {
  impl_->encoder.log_probs(sequences, rows, log_probs);
  for (std::size_t i = 0; i < rows.size() * kBases; ++i) {
    if (!std::isfinite(log_probs[i])) {
      throw Error(ErrorKind::kNumeric, "the model gives a value that is not finite at row " +
                                           std::to_string(rows[i / kBases]));
    }
  }
}

void Session::hidden(std::span<const TokenView> sequences, int layer, const RowSink& sink) {
  if (layer < 0 || layer > impl_->config.layers) {
    throw Error(ErrorKind::kUsage, "layer " + std::to_string(layer) +
                                       " does not exist: the model has 0.." +
                                       std::to_string(impl_->config.layers));
  }
  impl_->encoder.hidden(sequences, layer, sink);
}

void Session::on_layer(const std::function<void(int done, int of)>& call) {
  impl_->encoder.on_layer(call);
}

std::uint64_t Session::memory_needed(std::int64_t rows, std::int64_t contexts) const {
  return impl_->encoder.memory_needed(rows, contexts);
}

double Session::forward_flops_per_row() const { return m5::forward_flops_per_row(impl_->config); }

double forward_flops_per_row(const ModelConfig& config) {
  const double d = config.dim, heads = config.heads, dv = config.value_dim(), ff = config.ff_dim;
  double flops = 0;
  for (int l = 0; l < config.layers; ++l) {
    flops += 2 * d * (2 * kKeyDim + dv) * heads;            // query, key, value
    flops += 2 * d * d + 4 * d * ff;                        // output, feed-forward
    flops += 2 * 2 * config.features() * (dv + 1) * heads;  // accumulate and query
    if (config.has_conv(l)) flops += 2 * d * config.local_conv[static_cast<std::size_t>(l)].width;
  }
  return flops;
}

std::unique_ptr<kernels::Backend<float>> make_backend(const std::string& device, int threads,
                                                      Precision precision) {
  if (device == "ref") return kernels::make_ref_backend<float>();
  if (device == "cuda") {
    throw Error(ErrorKind::kResource,
                "device cuda: this m5 was built without CUDA; use --device cpu");
  }
  if (device != "cpu" && device != "auto") {
    throw Error(ErrorKind::kUsage, "device '" + device + "' is not known: cpu, cuda, auto or ref");
  }
  kernels::CpuOptions options;
  options.threads = threads > 0 ? threads : available_cpus();
  options.bf16 = precision == Precision::kBf16;
  return kernels::make_cpu_backend(options);
}

}  // namespace m5
