#include "train/optimizer.hpp"

#include <algorithm>
#include <cmath>

namespace m5 {
namespace {

constexpr double kAdamEpsilon = 1e-8;

}  // namespace

std::vector<Optimizer::Part> Optimizer::parts_of(const TrainSettings& settings,
                                                 const ParameterTable& table) {
  const bool muon = settings.optimizer == MatrixOptimizer::kMuon;
  std::vector<Part> parts;
  const auto add_matrix = [&](std::int64_t offset, std::int64_t rows, std::int64_t columns,
                              double factor) {
    const MatrixShape shape{static_cast<int>(rows), static_cast<int>(columns)};
    if (muon) factor *= settings.muon_factor();
    parts.push_back({offset, rows * columns, true, factor, muon ? shape : MatrixShape{}});
  };
  for (const ParameterSpec& spec : table.specs) {
    if (settings.memory_only && spec.offset < table.encoder) continue;
    const auto is = [&](std::int64_t LayerOffsets::*which) {
      return std::any_of(table.layers.begin(), table.layers.end(),
                         [&](const LayerOffsets& layer) { return layer.*which == spec.offset; });
    };
    const bool of_block = spec.offset < table.final_norm && spec.decay;
    if (!of_block) {
      parts.push_back({spec.offset, spec.size, spec.decay, 1, {}});
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

std::vector<MatrixShape> Optimizer::shapes_of(const std::vector<Part>& parts) {
  std::vector<MatrixShape> shapes;
  for (const Part& part : parts) {
    if (part.shape.rows > 0) shapes.push_back(part.shape);
  }
  return shapes;
}

Optimizer::Optimizer(const TrainSettings& settings, const ParameterTable& table,
                     kernels::Backend<float>& backend)
    : settings_(settings),
      backend_(backend),
      parts_(parts_of(settings, table)),
      muon_(backend, shapes_of(parts_)) {}

void Optimizer::update(std::int64_t step, double gradient_scale, const double* gradient,
                       TrainState& state) {
  const double learning_rate = settings_.schedule().at(step);
  const auto t = static_cast<double>(step);
  backend_.for_tiles(static_cast<std::int64_t>(parts_.size()), [&](int worker, std::int64_t i) {
    const Part& part = parts_[static_cast<std::size_t>(i)];
    const double weight_decay = part.decay ? settings_.weight_decay : 0;
    float* const first = state.first_moment.data() + part.offset;
    float* const parameters = state.parameters.data() + part.offset;
    if (part.shape.rows > 0) {
      muon_.update(worker, part.shape, {learning_rate * part.factor, weight_decay, gradient_scale},
                   gradient + part.offset, first, parameters);
      return;
    }
    backend_.adamw(part.size,
                   {.learning_rate = learning_rate * part.factor,
                    .beta1 = settings_.beta1,
                    .beta2 = settings_.beta2,
                    .epsilon = kAdamEpsilon,
                    .weight_decay = weight_decay,
                    .correction1 = 1 - std::pow(settings_.beta1, t),
                    .correction2 = 1 - std::pow(settings_.beta2, t),
                    .gradient_scale = gradient_scale},
                   gradient + part.offset, first, state.second_moment.data() + part.offset,
                   parameters);
  });
}

std::int64_t Optimizer::memory_needed(const TrainSettings& settings, const ParameterTable& table,
                                      const kernels::Backend<float>& backend) {
  return Muon::memory_needed(shapes_of(parts_of(settings, table))) * backend.workers();
}

}  // namespace m5
