// One step of training, and validation: encoder, gradient, optimizer, average.
#pragma once

#include <cstdint>
#include <limits>
#include <memory>
#include <vector>

#include "data/genome_store.hpp"
#include "kernels/devices.hpp"
#include "nn/encoder.hpp"
#include "train/batch.hpp"
#include "train/checkpoint.hpp"
#include "train/settings.hpp"
#include "train/training_memory.hpp"

namespace m5 {

struct StepResult {
  ObjectiveResult objective;  // over all micro-batches, before the update
  double gradient_norm = 0;   // of the mean loss, before clipping
  double learning_rate = 0;
  std::int64_t tokens = 0;  // nt read in this step
};

// How a run is to fit the memory. The results do not depend on it.
struct MemoryPlan {
  int keep_every = 1;      // layers from one kept residual stream to the next (Encoder::keep_every)
  std::int64_t bytes = 0;  // of encoder and optimizer, of the host
  std::uint64_t device_bytes = 0;  // of the device's own memory
  std::uint64_t device_free = std::numeric_limits<std::uint64_t>::max();  // when it was planned
  bool fits_device() const { return device_bytes <= device_free; }
  // Error(kResource) with both numbers where it does not.
  void require_device() const;
};

class Trainer {
 public:
  // All references must outlive the trainer. state.parameters has the size of the model's slab;
  // empty moments start at zero, an empty average at the parameters.
  Trainer(const TrainSettings& settings, const GenomeStore& store, kernels::Device& device,
          TrainState state, int keep_every = 1);

  // Step steps() + 1. Throws Error(kNumeric), the state then being useless, when loss, gradient or
  // an updated parameter is not finite.
  StepResult step();
  std::int64_t steps() const { return state_.step; }     // done
  std::int64_t tokens() const { return state_.tokens; }  // nt read by them
  // Both hold until the next step, and bring to the host what is with the device.
  const TrainState& state();
  // What is validated and saved as the model: the average, where one is kept.
  const std::vector<float>& weights();

  // Evenly spread windows of up to max_tokens nt under masks that are the same for every run (mask
  // rate 0.15, shares 0.8, 0.1, 0.1), so that runs compare. No more windows at a time than a
  // micro-batch of the stage has.
  ObjectiveResult validate(const GenomeStore& store, const Stage& stage, std::int64_t max_tokens);

  // Rows of the largest micro-batch of the settings.
  static std::int64_t largest_rows(const TrainSettings& settings, const GenomeStore& store);
  // For the largest micro-batch and validation, beside what the process has: the least
  // recomputation that needs at most `limit` bytes, and of the device's what is free; or, if none
  // does, the least need.
  static MemoryPlan plan_memory(const TrainSettings& settings, const GenomeStore& training,
                                const GenomeStore& validation, kernels::Device& device,
                                std::int64_t limit);

 private:
  Window draw(const WindowId& id, std::int64_t segment_length);
  void average();
  void use(kernels::Update::Slab slab);

  const TrainSettings& settings_;
  const ParallelFor parallel_;  // on the threads of the host
  WindowSampler sampler_;
  Encoder<float> encoder_;
  Batch batch_;
  std::unique_ptr<TrainingMemory> memory_;  // of a config with a genome memory
  TrainState state_;                        // the slabs: see Update::fetch
  const bool averaged_;
  std::unique_ptr<kernels::Update> update_;
};

}  // namespace m5
