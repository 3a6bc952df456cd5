// What happens at which step: segment lengths and learning rates.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace m5 {

struct Stage {
  std::int64_t segment_length = 0;  // nt
  std::int64_t steps = 0;
  bool operator==(const Stage&) const = default;
};

// Pairs lengths with steps; a single number of steps is split evenly over the lengths, what is left
// over goes to the last. Throws Error(kUsage) when the counts differ or a number is not positive.
std::vector<Stage> make_curriculum(const std::vector<std::int64_t>& segment_lengths,
                                   const std::vector<std::int64_t>& steps);

std::int64_t total_steps(const std::vector<Stage>& curriculum);
// The stage of a step; steps count from 1.
const Stage& stage_of(const std::vector<Stage>& curriculum, std::int64_t step);

// Linear warm-up to peak over `warmup` steps, then half a cosine down to peak * min_fraction, which
// step `total` reaches.
struct LearningRate {
  double peak = 1e-3;
  double min_fraction = 0.1;
  std::int64_t warmup = 100;
  std::int64_t total = 1;
  double at(std::int64_t step) const;
};

}  // namespace m5
