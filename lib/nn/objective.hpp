// What a step of training or validation is scored on, and the score.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

namespace m5 {

// What a chosen row asks of the model.
enum class TargetKind : std::uint8_t { kMasked = 0, kSubstituted = 1, kKept = 2 };

// The positions that are scored; rows ascending over the batch.
struct Objective {
  std::vector<std::int64_t> rows;
  std::vector<std::uint8_t> targets;  // original base 0..3
  std::vector<TargetKind> kinds;
};

struct ObjectiveResult {
  std::array<double, 3> nll{};  // sum of -log p(target), nats, by kind
  std::array<std::int64_t, 3> count{}, correct{};
  double total_nll() const { return nll[0] + nll[1] + nll[2]; }
  std::int64_t total_count() const { return count[0] + count[1] + count[2]; }
  ObjectiveResult& operator+=(const ObjectiveResult& o);
};

// log_probs [rows][4].
template <class T>
ObjectiveResult tally(const Objective& objective, const T* log_probs);
// d_logits [n][4]: the gradient of scale * sum of -log p(target) over rows [first, first + n) of
// the objective, whose log_probs [n][4] are given.
template <class T>
void logits_gradient(const Objective& objective, std::int64_t first, int n, double scale,
                     const T* log_probs, T* d_logits);

}  // namespace m5
