// Everything that decides the bytes of a trained model, the data aside.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "m5/config.hpp"
#include "train/masking.hpp"
#include "train/schedule.hpp"

namespace m5 {

struct TrainSettings {
  ModelConfig config;
  std::string init_sha256;  // of the model file that training starts from; empty: fresh weights
  std::vector<Stage> curriculum{{4096, 1000}};
  std::int64_t batch_tokens = 16384;  // nt of one micro-batch, rounded down to whole windows
  std::int64_t accumulate = 1;        // micro-batches a step
  double learning_rate = 1e-3;
  double min_learning_rate = 0.1;  // fraction of learning_rate
  std::int64_t warmup = 100;       // steps
  double weight_decay = 0.05;      // matrices only
  double beta1 = 0.9, beta2 = 0.98;
  double clip = 1.0;  // greatest global norm of the gradient of the mean loss; 0: no clipping
  MaskOptions mask;
  double reverse_complement = 0.5;  // probability
  std::uint64_t seed = 1;
  std::string device = "cpu", precision = "fp32";

  std::int64_t steps() const { return total_steps(curriculum); }
  // Windows in one micro-batch, at least 1.
  std::int64_t windows_per_batch(std::int64_t segment_length) const;
  // nt of all steps if no record is shorter than the segment.
  std::int64_t planned_tokens() const;
  LearningRate schedule() const { return {learning_rate, min_learning_rate, warmup, steps()}; }

  // Throws Error(kUsage) naming the option whose value is out of range.
  void check() const;
};

// Option name (without dashes) -> value as text, exact for numbers. Kept in checkpoints and as
// provenance in models.
using SettingTexts = std::map<std::string, std::string>;
SettingTexts setting_texts(const TrainSettings& settings);

}  // namespace m5
