// The update of the parameters: AdamW for all of them, or Muon for the matrices of the blocks.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/backend.hpp"
#include "kernels/parameters.hpp"
#include "train/checkpoint.hpp"
#include "train/muon.hpp"
#include "train/settings.hpp"

namespace m5 {

class Optimizer {
 public:
  // Settings and backend must outlive it.
  Optimizer(const TrainSettings& settings, const ParameterTable& table,
            kernels::Backend<float>& backend);

  // Step `step`, from 1: parameters and moments from gradient * gradient_scale. Muon keeps its
  // momentum as the first moment.
  void update(std::int64_t step, double gradient_scale, const double* gradient, TrainState& state);

  // Bytes beside the slabs of TrainState.
  static std::int64_t memory_needed(const TrainSettings& settings, const ParameterTable& table,
                                    const kernels::Backend<float>& backend);

 private:
  // A stretch of the slab that is updated in one way.
  struct Part {
    std::int64_t offset, size;
    bool decay;
    double factor;      // of the learning rate
    MatrixShape shape;  // under Muon; no rows: AdamW
  };
  static std::vector<Part> parts_of(const TrainSettings& settings, const ParameterTable& table);
  static std::vector<MatrixShape> shapes_of(const std::vector<Part>& parts);

  const TrainSettings& settings_;
  kernels::Backend<float>& backend_;
  std::vector<Part> parts_;
  Muon muon_;
};

}  // namespace m5
