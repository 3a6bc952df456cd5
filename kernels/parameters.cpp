#include "kernels/parameters.hpp"

#include <cmath>
#include <utility>

#include "m5/error.hpp"

namespace m5 {

ParameterTable::ParameterTable(const ModelConfig& config) {
  const std::int64_t d = config.dim, heads = config.heads, ff = config.ff_dim;
  const std::int64_t key_rows = kKeyDim * heads, value_rows = config.value_dim() * heads;

  const auto add = [this](std::string name, std::vector<std::int64_t> shape, double init_scale,
                          double init_value, bool decay) {
    ParameterSpec spec{std::move(name), std::move(shape), total, 1, init_scale, init_value, decay};
    for (std::int64_t extent : spec.shape) spec.size *= extent;
    total += spec.size;
    specs.push_back(std::move(spec));
    return specs.back().offset;
  };
  const auto matrix = [&](const std::string& name, std::int64_t out, std::int64_t in, double gain) {
    return add(name, {out, in}, gain / std::sqrt(static_cast<double>(in)), 0, true);
  };
  const auto gain = [&](const std::string& name) { return add(name, {d}, 0, 1, false); };
  const auto bias = [&](const std::string& name, std::int64_t n) {
    return add(name, {n}, 0, 0, false);
  };

  const std::int64_t taps = 2 * config.window + 1;
  embedding =
      add("embedding.weight", {taps, 7, d}, 1 / std::sqrt(static_cast<double>(taps)), 0, false);
  embedding_bias = bias("embedding.bias", d);
  // Sub-layers that write to the residual stream start small, so that its scale does not grow with
  // L.
  const double residual = 1 / std::sqrt(2.0 * config.layers);
  for (int l = 0; l < config.layers; ++l) {
    const std::string prefix = "layers." + std::to_string(l) + ".";
    LayerOffsets o;
    if (config.has_conv(l)) {
      const int width = config.local_conv[static_cast<std::size_t>(l)].width;
      o.conv_norm = gain(prefix + "conv.norm");
      o.conv_weight = add(prefix + "conv.weight", {width, d}, 0.5 / std::sqrt(width), 0, false);
    }
    // Key and value first: the backward pass finishes them in a sweep of their own, and the norm
    // that both sweeps touch lies between the two ranges.
    o.key_value = matrix(prefix + "attention.key_value", key_rows + value_rows, d, 1);
    o.attention_norm = gain(prefix + "attention.norm");
    o.query = matrix(prefix + "attention.query", key_rows, d, 1);
    o.output_weight = matrix(prefix + "attention.output.weight", d, value_rows, residual);
    o.output_bias = bias(prefix + "attention.output.bias", d);
    o.ff_norm = gain(prefix + "feed_forward.norm");
    o.up_weight = matrix(prefix + "feed_forward.up.weight", ff, d, 1);
    o.up_bias = bias(prefix + "feed_forward.up.bias", ff);
    o.down_weight = matrix(prefix + "feed_forward.down.weight", d, ff, residual);
    o.down_bias = bias(prefix + "feed_forward.down.bias", d);
    o.end = total;
    layers.push_back(o);
  }
  final_norm = gain("final_norm");
  head_weight = matrix("head.weight", 4, d, 0.5);
  head_bias = bias("head.bias", 4);
  encoder = total;
  if (config.memory.empty()) return;
  const auto inputs = static_cast<std::int64_t>(config.memory.orders.size()) + 1;
  const std::int64_t hidden = config.memory.hidden;
  const double scale = 1 / std::sqrt(static_cast<double>(inputs));
  memory.confidence_weight =
      add("memory.confidence.weight", {inputs, hidden}, scale, 0, /*decay=*/true);
  memory.confidence_bias = bias("memory.confidence.bias", hidden);
  memory.evidence_weight = add("memory.evidence.weight", {inputs, hidden}, scale, 0, true);
  // Nothing at first: a model that is given a memory begins with the scores it had.
  memory.output_weight = bias("memory.output.weight", hidden);
}

void ParameterTable::check_count(std::size_t count) const {
  if (count == static_cast<std::size_t>(total)) return;
  throw Error(ErrorKind::kUsage, "the model has " + std::to_string(count) +
                                     " parameters, its config needs " + std::to_string(total));
}

}  // namespace m5
