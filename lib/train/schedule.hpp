// What happens at which step: segment lengths, batches and learning rates.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

namespace m5 {

struct Stage {
  std::int64_t segment_length = 0;  // nt
  std::int64_t steps = 0;
  std::int64_t batch_tokens = 16384;  // nt of one micro-batch, rounded down to whole windows
  // In one micro-batch, at least 1.
  std::int64_t windows() const { return std::max<std::int64_t>(1, batch_tokens / segment_length); }
  bool operator==(const Stage&) const = default;
};

// Pairs lengths with steps and batches; a single number of steps is split evenly over the lengths,
// what is left over goes to the last; a single size of a batch is that of all. Throws Error(kUsage)
// when the counts differ or a number is not positive.
std::vector<Stage> make_curriculum(const std::vector<std::int64_t>& segment_lengths,
                                   const std::vector<std::int64_t>& steps,
                                   const std::vector<std::int64_t>& batch_tokens = {16384});

std::int64_t total_steps(const std::vector<Stage>& curriculum);
// The stage of a step; steps count from 1.
const Stage& stage_of(const std::vector<Stage>& curriculum, std::int64_t step);

// How the learning rate falls after the warm-up: as half a cosine, as a line, or not at all until
// the last three tenths, then as a line.
enum class Decay { kCosine, kLinear, kTrapezoid };
// "cosine", "linear", "trapezoid". Throws Error(kUsage) for another name.
Decay decay_named(const std::string& name);
std::string name_of(Decay decay);

// Linear warm-up to peak over `warmup` steps, then down to peak * min_fraction, which step `total`
// reaches.
struct LearningRate {
  double peak = 1e-3;
  double min_fraction = 0.1;
  std::int64_t warmup = 100;
  std::int64_t total = 1;
  Decay decay = Decay::kCosine;
  double at(std::int64_t step) const;
};

}  // namespace m5
