#include "train/schedule.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include "m5/error.hpp"

namespace m5 {

constexpr std::int64_t kMostStages = 1000;
constexpr double kTrapezoidEnd = 0.3;  // share of the steps after warm-up

std::vector<Stage> make_curriculum(const std::vector<std::int64_t>& segment_lengths,
                                   const std::vector<std::int64_t>& steps,
                                   const std::vector<std::int64_t>& batch_tokens) {
  // The upper limit keeps products within 64 bits.
  constexpr std::int64_t kMostTokens = 1'000'000'000'000;
  const auto stages = static_cast<std::int64_t>(segment_lengths.size());
  if (stages == 0) throw Error(ErrorKind::kUsage, "--segment-length: no length given");
  if (stages > kMostStages) {  // they are kept in the model file, as text
    throw Error(ErrorKind::kUsage,
                "--segment-length: at most " + std::to_string(kMostStages) + " lengths");
  }
  if (steps.size() != 1 && steps.size() != segment_lengths.size()) {
    throw Error(ErrorKind::kUsage, "--steps: give one number, or one for each of the " +
                                       std::to_string(stages) + " segment lengths");
  }
  if (batch_tokens.size() != 1 && batch_tokens.size() != segment_lengths.size()) {
    throw Error(ErrorKind::kUsage, "--batch-tokens: give one number, or one for each of the " +
                                       std::to_string(stages) + " segment lengths");
  }
  std::vector<Stage> curriculum;
  for (std::int64_t i = 0; i < stages; ++i) {
    const std::int64_t length = segment_lengths[static_cast<std::size_t>(i)];
    std::int64_t n = steps.size() == 1 ? steps[0] : steps[static_cast<std::size_t>(i)];
    if (steps.size() == 1 && stages > 1) {
      n = i + 1 < stages ? steps[0] / stages : steps[0] - steps[0] / stages * (stages - 1);
    }
    if (length < 1) throw Error(ErrorKind::kUsage, "--segment-length: must be 1 or more");
    if (n < 1) {
      throw Error(ErrorKind::kUsage, "--steps: every segment length needs at least 1 step");
    }
    if (n > std::numeric_limits<std::int64_t>::max() / 1024 / stages) {
      throw Error(ErrorKind::kUsage, "--steps: too many");
    }
    const std::int64_t batch =
        batch_tokens.size() == 1 ? batch_tokens[0] : batch_tokens[static_cast<std::size_t>(i)];
    if (batch < 1 || batch > kMostTokens) {
      throw Error(ErrorKind::kUsage, "--batch-tokens: must be 1 to 1e12");
    }
    curriculum.push_back({length, n, batch});
  }
  return curriculum;
}

std::int64_t total_steps(const std::vector<Stage>& curriculum) {
  std::int64_t total = 0;
  for (const Stage& stage : curriculum) total += stage.steps;
  return total;
}

const Stage& stage_of(const std::vector<Stage>& curriculum, std::int64_t step) {
  for (const Stage& stage : curriculum) {
    if (step <= stage.steps) return stage;
    step -= stage.steps;
  }
  return curriculum.back();
}

Decay decay_named(const std::string& name) {
  for (const Decay decay : {Decay::kCosine, Decay::kLinear, Decay::kTrapezoid}) {
    if (name == name_of(decay)) return decay;
  }
  throw Error(ErrorKind::kUsage,
              "--schedule: '" + name + "' is none of cosine, linear and trapezoid");
}

std::string name_of(Decay decay) {
  if (decay == Decay::kCosine) return "cosine";
  return decay == Decay::kLinear ? "linear" : "trapezoid";
}

double LearningRate::at(std::int64_t step) const {
  if (step <= warmup) return peak * static_cast<double>(step) / static_cast<double>(warmup);
  const double done = static_cast<double>(step - warmup) /
                      static_cast<double>(std::max<std::int64_t>(total - warmup, 1));
  const double left = 1 - std::min(done, 1.0);
  double height = left;
  if (decay == Decay::kCosine) {
    height = 0.5 * (1 + std::cos(std::numbers::pi * std::min(done, 1.0)));
  } else if (decay == Decay::kTrapezoid) {
    height = std::min(1.0, left / kTrapezoidEnd);
  }
  return peak * (min_fraction + (1 - min_fraction) * height);
}

}  // namespace m5
