#include "train/schedule.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include "m5/error.hpp"

namespace m5 {

constexpr std::int64_t kMostStages = 1000;

std::vector<Stage> make_curriculum(const std::vector<std::int64_t>& segment_lengths,
                                   const std::vector<std::int64_t>& steps) {
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
    curriculum.push_back({length, n});
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

double LearningRate::at(std::int64_t step) const {
  if (step <= warmup) return peak * static_cast<double>(step) / static_cast<double>(warmup);
  const double done = static_cast<double>(step - warmup) /
                      static_cast<double>(std::max<std::int64_t>(total - warmup, 1));
  const double cosine = 0.5 * (1 + std::cos(std::numbers::pi * std::min(done, 1.0)));
  return peak * (min_fraction + (1 - min_fraction) * cosine);
}

}  // namespace m5
