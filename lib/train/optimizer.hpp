// How the parameters are updated: AdamW for all of them, or Muon for the matrices of the blocks.
// By which rule and at which rate; the arithmetic is kernels::Update's.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/parameters.hpp"
#include "kernels/update.hpp"
#include "train/settings.hpp"

namespace m5 {

// The parts that training updates: all parameters, or the genome memory's alone.
std::vector<kernels::UpdatePart> update_parts(const TrainSettings& settings,
                                              const ParameterTable& table);

// Step `step`, from 1, for the gradient times gradient_scale.
kernels::UpdateStep update_step(const TrainSettings& settings, std::int64_t step,
                                double gradient_scale);

}  // namespace m5
