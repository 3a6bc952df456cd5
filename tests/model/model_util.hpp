// Small models and sequences for the tests of whole models.
#pragma once

#include <cstdint>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "kernels/tiled/make_tiled_sweeps.hpp"
#include "m5/config.hpp"
#include "m5/tokens.hpp"
#include "nn/encoder.hpp"
#include "random_model.hpp"

namespace m5 {

inline ModelConfig tiny_config(int dim, int layers, int order, std::vector<LocalConv> conv = {}) {
  ModelConfig config;
  config.name = "tiny";
  config.dim = dim;
  config.layers = layers;
  config.heads = 8;
  config.ff_dim = 2 * dim;
  config.order = order;
  config.bound = 2;
  config.window = 3;
  config.local_conv = std::move(conv);
  config.validate();
  return config;
}

inline TokenView view(const std::vector<Token>& tokens, bool circular, std::int64_t context = 0) {
  return {tokens.data(), static_cast<std::int64_t>(tokens.size()), circular, context};
}

inline std::vector<std::int64_t> all_rows(std::int64_t count) {
  std::vector<std::int64_t> rows(static_cast<std::size_t>(count));
  std::iota(rows.begin(), rows.end(), 0);
  return rows;
}

// Whether bf16: both precisions work on every CPU.
inline std::vector<bool> cpu_precisions() { return {false, true}; }

// A backend and an encoder on it, with parameters set.
template <class T>
struct TestModel {
  TestModel(const ModelConfig& config, const std::vector<double>& parameters,
            std::unique_ptr<kernels::Backend<T>> b, bool training = false, int block_rows = 0,
            bool bf16_residual = false)
      : backend(std::move(b)),
        encoder(*backend, kernels::make_tiled_sweeps(
                              *backend, config,
                              {.training = training, .bf16_residual = bf16_residual}, block_rows)),
        dim(config.dim) {
    set(parameters);
  }

  void set(const std::vector<double>& parameters) {
    const std::vector<T> values(parameters.begin(), parameters.end());
    encoder.set_parameters(values.data());
  }

  std::vector<T> log_probs(const std::vector<TokenView>& batch,
                           const std::vector<std::int64_t>& rows) {
    std::vector<T> result(4 * rows.size());
    encoder.log_probs(batch, rows, result.data());
    return result;
  }
  std::vector<T> log_probs(const std::vector<TokenView>& batch) {
    return log_probs(batch, all_rows(row_count(batch)));
  }

  std::vector<T> hidden(const std::vector<TokenView>& batch, int layer) {
    std::vector<T> result(static_cast<std::size_t>(row_count(batch) * dim));
    encoder.hidden(batch, layer, [&](std::int64_t first, int n, const T* values) {
      std::copy_n(values, std::int64_t{n} * dim, result.data() + first * dim);
    });
    return result;
  }

  static std::int64_t row_count(const std::vector<TokenView>& batch) {
    std::int64_t rows = 0;
    for (const TokenView& sequence : batch) rows += sequence.length;
    return rows;
  }

  std::unique_ptr<kernels::Backend<T>> backend;
  Encoder<T> encoder;
  std::int64_t dim;
};

// Every third row, targets and kinds in turn.
inline Objective some_objective(std::int64_t rows) {
  Objective objective;
  for (std::int64_t row = 1; row < rows; row += 3) {
    objective.rows.push_back(row);
    objective.targets.push_back(static_cast<std::uint8_t>((row * 7 / 3) % kBases));
    objective.kinds.push_back(static_cast<TargetKind>(row % 3));
  }
  return objective;
}

}  // namespace m5
