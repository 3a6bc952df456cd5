// One step of training, and validation: encoder, gradient, AdamW.
#pragma once

#include <cstdint>
#include <vector>

#include "data/genome_store.hpp"
#include "kernels/backend.hpp"
#include "nn/encoder.hpp"
#include "train/batch.hpp"
#include "train/checkpoint.hpp"
#include "train/settings.hpp"

namespace m5 {

struct StepResult {
  ObjectiveResult objective;  // over all micro-batches, before the update
  double gradient_norm = 0;   // of the mean loss, before clipping
  double learning_rate = 0;
  std::int64_t tokens = 0;  // nt read in this step
};

class Trainer {
 public:
  // All references must outlive the trainer. state.parameters has the size of the model's slab;
  // empty moments start at zero.
  Trainer(const TrainSettings& settings, const GenomeStore& store, kernels::Backend<float>& backend,
          TrainState state);

  // Step state().step + 1. Throws Error(kNumeric), the state then being useless, when loss,
  // gradient or an updated parameter is not finite.
  StepResult step();
  const TrainState& state() const { return state_; }

  // Evenly spread windows of up to max_tokens nt under masks that are the same for every run (mask
  // rate 0.15, shares 0.8, 0.1, 0.1), so that runs compare.
  ObjectiveResult validate(const GenomeStore& store, std::int64_t segment_length,
                           std::int64_t max_tokens);

  // Rows of the largest micro-batch of the settings.
  static std::int64_t largest_rows(const TrainSettings& settings, const GenomeStore& store);
  // Bytes of encoder and optimizer for such a micro-batch, the sequences in memory excluded.
  static std::uint64_t memory_needed(const TrainSettings& settings, const GenomeStore& store,
                                     kernels::Backend<float>& backend);

 private:
  void update(double learning_rate, double gradient_scale);

  const TrainSettings& settings_;
  kernels::Backend<float>& backend_;
  WindowSampler sampler_;
  Encoder<float> encoder_;
  Batch batch_;
  TrainState state_;
  std::vector<double> gradient_;
};

}  // namespace m5
