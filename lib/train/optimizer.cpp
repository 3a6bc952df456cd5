#include "train/optimizer.hpp"

#include <algorithm>
#include <cmath>

namespace m5 {
namespace {

constexpr double kAdamEpsilon = 1e-8;

}  // namespace

std::vector<kernels::UpdatePart> update_parts(const TrainSettings& settings,
                                              const ParameterTable& table) {
  const bool muon = settings.optimizer == MatrixOptimizer::kMuon;
  std::vector<kernels::UpdatePart> parts;
  const auto add_matrix = [&](std::int64_t offset, std::int64_t rows, std::int64_t columns,
                              double factor) {
    parts.push_back({offset, rows * columns, true, factor});
    if (!muon) return;
    parts.back().factor *= settings.muon_factor();
    parts.back().rows = static_cast<int>(rows);
    parts.back().columns = static_cast<int>(columns);
  };
  for (const ParameterSpec& spec : table.specs) {
    if (settings.memory_only && spec.offset < table.encoder) continue;
    const auto is = [&](std::int64_t LayerOffsets::*which) {
      return std::any_of(table.layers.begin(), table.layers.end(),
                         [&](const LayerOffsets& layer) { return layer.*which == spec.offset; });
    };
    const bool of_block = spec.offset < table.final_norm && spec.decay;
    if (!of_block) {
      parts.push_back({spec.offset, spec.size, spec.decay, 1});
    } else if (is(&LayerOffsets::key_value)) {  // two matrices, of keys and of values
      const std::int64_t keys = std::int64_t{kKeyDim} * settings.config.heads;
      const std::int64_t columns = spec.shape[1];
      add_matrix(spec.offset, keys, columns, settings.key_query_factor);
      add_matrix(spec.offset + keys * columns, spec.shape[0] - keys, columns, 1);
    } else {
      add_matrix(spec.offset, spec.shape[0], spec.shape[1],
                 is(&LayerOffsets::query) ? settings.key_query_factor : 1);
    }
  }
  return parts;
}

kernels::UpdateStep update_step(const TrainSettings& settings, std::int64_t step,
                                double gradient_scale) {
  const auto t = static_cast<double>(step);
  return {.learning_rate = settings.schedule().at(step),
          .beta1 = settings.beta1,
          .beta2 = settings.beta2,
          .epsilon = kAdamEpsilon,
          .weight_decay = settings.weight_decay,
          .correction1 = 1 - std::pow(settings.beta1, t),
          .correction2 = 1 - std::pow(settings.beta2, t),
          .gradient_scale = gradient_scale};
}

}  // namespace m5
