// A whole training run: steps, validation, log, checkpoints, interruption.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "data/genome_store.hpp"
#include "kernels/devices.hpp"
#include "m5/model.hpp"
#include "train/settings.hpp"
#include "train/train_log.hpp"

namespace m5 {

struct TrainingRun {
  TrainSettings settings;
  const GenomeStore* training = nullptr;
  const GenomeStore* validation = nullptr;  // null: none
  std::int64_t validate_every = 500;        // steps; 0: only after the last
  std::int64_t validation_tokens = 262144;  // nt
  std::string log;                          // empty: none
  std::string checkpoint;
  std::int64_t checkpoint_every = 500;  // steps; 0: only when stopped, and after the last step
  bool resume = false;
  int keep_every = 1;  // of a MemoryPlan

  // Asked after every step; true ends the run after a checkpoint.
  std::function<bool()> stop;
  // Told after every step.
  std::function<void(const StepRow&)> report;
};

// Trains `model` in place, its parameters being the start of a fresh run, and fills its provenance.
// Returns true when all steps are done, false when stopped. Either way a checkpoint is written:
// once the caller has saved a finished model it may remove it. Throws Error(kNumeric) saying at
// which step the run blew up and which checkpoint is left, Error(kInput) when a whole run had no
// base to ask about.
bool run_training(const TrainingRun& run, kernels::Device& device, Model& model);

}  // namespace m5
