// A training run on disk: one safetensors file that a later run continues from, bit for bit.
#pragma once

#include <cstdint>
#include <string>

#include "kernels/update.hpp"
#include "train/settings.hpp"

namespace m5 {

// What changes from step to step. Windows and masks are functions of the seed and the step, so the
// step is the only cursor into the data.
struct TrainState : kernels::ParameterState {
  std::int64_t step = 0;    // steps done
  std::int64_t tokens = 0;  // nt read by them
};

// `settings` also names the data (key "training-data"). The average is kept where there is one.
void save_checkpoint(const std::string& path, const TrainState& state,
                     const SettingTexts& settings);

// The average is needed where the setting "ema" is there and not 0. Throws Error(kIo) if there is
// no such file, Error(kModel) if it is no intact checkpoint of a model with `parameters` elements,
// Error(kUsage) naming the first option that differs from `settings`; more steps in the last stage
// are no difference.
TrainState load_checkpoint(const std::string& path, std::int64_t parameters,
                           const SettingTexts& settings);

}  // namespace m5
