#include "train/settings.hpp"

#include <algorithm>
#include <charconv>
#include <limits>

#include "m5/error.hpp"

namespace m5 {
namespace {

// Shortest text that reads back as the same number, whatever the locale.
std::string text(double value) {
  char buffer[32];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, value).ptr;
  return {buffer, end};
}

void require(bool ok, const char* message) {
  if (!ok) throw Error(ErrorKind::kUsage, message);
}

}  // namespace

MatrixOptimizer optimizer_named(const std::string& name) {
  if (name == "adamw") return MatrixOptimizer::kAdamW;
  if (name == "muon") return MatrixOptimizer::kMuon;
  throw Error(ErrorKind::kUsage, "--optimizer: '" + name + "' is neither adamw nor muon");
}

std::string name_of(MatrixOptimizer optimizer) {
  return optimizer == MatrixOptimizer::kMuon ? "muon" : "adamw";
}

std::int64_t TrainSettings::planned_tokens() const {
  double tokens = 0;  // exact below 2^53, and no overflow
  for (const Stage& stage : curriculum) {
    tokens += static_cast<double>(stage.steps) * static_cast<double>(accumulate) *
              static_cast<double>(stage.windows()) * static_cast<double>(stage.segment_length);
  }
  return static_cast<std::int64_t>(std::min(tokens, 9e18));
}

void TrainSettings::check() const {
  // Comparisons are written so that NaN fails them.
  require(accumulate >= 1 && accumulate <= 1'000'000, "--accumulate: must be 1 to 1e6");
  require(learning_rate > 0 && learning_rate <= std::numeric_limits<float>::max(),
          "--lr: must be greater than 0");
  require(muon_learning_rate >= 0 && muon_learning_rate <= std::numeric_limits<float>::max(),
          "--muon-lr: must be greater than 0");
  require(muon_learning_rate == 0 || optimizer == MatrixOptimizer::kMuon,
          "--muon-lr: is for --optimizer muon");
  require(key_query_factor >= 0 && key_query_factor <= 1000, "--qk-lr: must be between 0 and 1000");
  require(average >= 0 && average < 1, "--ema: must be at least 0 and less than 1");
  require(min_learning_rate >= 0 && min_learning_rate <= 1, "--min-lr: must be between 0 and 1");
  require(warmup >= 0, "--warmup: must be 0 or more");
  require(weight_decay >= 0 && weight_decay <= std::numeric_limits<float>::max(),
          "--weight-decay: must be 0 or more");
  require(beta1 >= 0 && beta1 < 1, "--beta1: must be at least 0 and less than 1");
  require(beta2 >= 0 && beta2 < 1, "--beta2: must be at least 0 and less than 1");
  require(clip >= 0, "--clip: must be 0 (off) or more");
  require(reverse_complement >= 0 && reverse_complement <= 1,
          "--reverse-complement: must be between 0 and 1");
  check_mask_options(mask);
  require(memory_records >= 1 && memory_records <= 1000, "--memory-records: must be 1 to 1000");
  require(memory_round >= 1, "--memory-round: must be 1 or more");
  require(memory_own_share >= 0 && memory_own_share <= 1, "--memory-own: must be between 0 and 1");
}

SettingTexts setting_texts(const TrainSettings& s) {
  std::string lengths, steps, batches;
  for (const Stage& stage : s.curriculum) {
    if (!lengths.empty()) {
      lengths += ',';
      steps += ',';
      batches += ',';
    }
    lengths += std::to_string(stage.segment_length);
    steps += std::to_string(stage.steps);
    batches += std::to_string(stage.batch_tokens);
  }
  SettingTexts texts{
      {"config", s.config.to_json()},
      {"init", s.init_sha256.empty() ? "none" : "sha256:" + s.init_sha256},
      {"segment-length", lengths},
      {"steps", steps},
      {"batch-tokens", batches},
      {"accumulate", std::to_string(s.accumulate)},
      {"optimizer", name_of(s.optimizer)},
      {"muon-lr",
       s.optimizer == MatrixOptimizer::kMuon ? text(s.learning_rate * s.muon_factor()) : "none"},
      {"qk-lr", text(s.key_query_factor)},
      {"ema", text(s.average)},
      {"schedule", name_of(s.decay)},
      {"mask-every", std::to_string(s.mask.every)},
      {"lr", text(s.learning_rate)},
      {"min-lr", text(s.min_learning_rate)},
      {"warmup", std::to_string(s.warmup)},
      {"weight-decay", text(s.weight_decay)},
      {"beta1", text(s.beta1)},
      {"beta2", text(s.beta2)},
      {"clip", text(s.clip)},
      {"mask-rate", text(s.mask.rate)},
      {"mask-shares",
       text(s.mask.masked) + "," + text(s.mask.substituted) + "," + text(s.mask.kept)},
      {"reverse-complement", text(s.reverse_complement)},
      {"seed", std::to_string(s.seed)},
      {"device", s.device},
      {"precision", s.precision},
  };
  if (s.config.memory.empty()) return texts;
  texts["learn"] = s.memory_only ? "memory" : "all";
  texts["memory-records"] = std::to_string(s.memory_records);
  texts["memory-round"] = std::to_string(s.memory_round);
  texts["memory-own"] = text(s.memory_own_share);
  return texts;
}

}  // namespace m5
