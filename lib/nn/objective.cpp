#include "nn/objective.hpp"

#include <algorithm>
#include <cmath>

#include "m5/tokens.hpp"

namespace m5 {

ObjectiveResult& ObjectiveResult::operator+=(const ObjectiveResult& o) {
  for (std::size_t k = 0; k < 3; ++k) {
    nll[k] += o.nll[k];
    count[k] += o.count[k];
    correct[k] += o.correct[k];
  }
  return *this;
}

template <class T>
ObjectiveResult tally(const Objective& objective, const T* log_probs) {
  ObjectiveResult result;
  for (std::size_t i = 0; i < objective.rows.size(); ++i) {
    const T* p = log_probs + kBases * i;
    const auto kind = static_cast<std::size_t>(objective.kinds[i]);
    result.nll[kind] -= static_cast<double>(p[objective.targets[i]]);
    ++result.count[kind];
    result.correct[kind] += std::max_element(p, p + kBases) - p == objective.targets[i];
  }
  return result;
}

template <class T>
void logits_gradient(const Objective& objective, std::int64_t first, int n, double scale,
                     const T* log_probs, T* d_logits) {
  for (std::int64_t i = 0; i < n; ++i) {
    const int target = objective.targets[static_cast<std::size_t>(first + i)];
    for (int b = 0; b < kBases; ++b) {
      const T p = std::exp(log_probs[i * kBases + b]);
      d_logits[i * kBases + b] = static_cast<T>(scale) * (p - (b == target ? T(1) : T(0)));
    }
  }
}

template ObjectiveResult tally(const Objective&, const float*);
template ObjectiveResult tally(const Objective&, const double*);
template void logits_gradient(const Objective&, std::int64_t, int, double, const float*, float*);
template void logits_gradient(const Objective&, std::int64_t, int, double, const double*, double*);

}  // namespace m5
