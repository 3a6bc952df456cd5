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

// What updates the matrices of the blocks; all else is updated by AdamW.
enum class MatrixOptimizer { kAdamW, kMuon };
// "adamw", "muon". Throws Error(kUsage) for another name.
MatrixOptimizer optimizer_named(const std::string& name);
std::string name_of(MatrixOptimizer optimizer);

struct TrainSettings {
  ModelConfig config;
  std::string init_sha256;  // of the model file that training starts from; empty: fresh weights
  std::vector<Stage> curriculum{{4096, 1000}};
  std::int64_t accumulate = 1;  // micro-batches a step
  MatrixOptimizer optimizer = MatrixOptimizer::kAdamW;
  double learning_rate = 1e-3;
  double muon_learning_rate = 0;   // of the matrices under Muon; 0: learning_rate
  double key_query_factor = 1;     // learning rate of key and query weights over that of matrices
  double min_learning_rate = 0.1;  // fraction of learning_rate
  std::int64_t warmup = 100;       // steps
  Decay decay = Decay::kCosine;
  double weight_decay = 0.05;  // matrices only
  double beta1 = 0.9, beta2 = 0.98;
  double clip = 1.0;   // greatest global norm of the gradient of the mean loss; 0: no clipping
  double average = 0;  // decay of the exponential average of the weights; 0: none
  MaskOptions mask;
  double reverse_complement = 0.5;  // probability
  // Of a config with a genome memory: learn its network alone, not the encoder.
  bool memory_only = false;
  int memory_records = 4;          // whole records with a memory at a time
  std::int64_t memory_round = 50;  // steps that they serve for
  double memory_own_share = 0.5;   // of the windows that have a memory of their own tokens alone
  std::uint64_t seed = 1;
  std::string device = "cpu", precision = "fp32";

  std::int64_t steps() const { return total_steps(curriculum); }
  // nt of all steps if no record is shorter than the segment.
  std::int64_t planned_tokens() const;
  LearningRate schedule() const {
    return {learning_rate, min_learning_rate, warmup, steps(), decay};
  }
  // Learning rate of Muon over that of AdamW, at every step.
  double muon_factor() const {
    return muon_learning_rate > 0 ? muon_learning_rate / learning_rate : 1;
  }

  // Throws Error(kUsage) naming the option whose value is out of range.
  void check() const;
};

// Option name (without dashes) -> value as text, exact for numbers. Kept in checkpoints and as
// provenance in models.
using SettingTexts = std::map<std::string, std::string>;
SettingTexts setting_texts(const TrainSettings& settings);

}  // namespace m5
