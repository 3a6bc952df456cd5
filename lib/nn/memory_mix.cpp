#include "nn/memory_mix.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

#include "m5/tokens.hpp"

namespace m5 {
namespace {

constexpr double kPseudoCount = 0.3;
constexpr double kConfidenceScale = 0.3;

// log(n + a) of whole numbers n; small ones are most of them, and come from a table.
template <class T>
class LogOfCounts {
 public:
  explicit LogOfCounts(double add) : add_(add) {
    for (std::size_t n = 0; n < table_.size(); ++n) table_[n] = compute(n);
  }
  T operator()(std::uint64_t n) const { return n < table_.size() ? table_[n] : compute(n); }

 private:
  T compute(std::uint64_t n) const {
    return static_cast<T>(std::log(static_cast<double>(n) + add_));
  }
  double add_;
  std::array<T, 4096> table_;
};

// y[j] += a x[j].
template <class T>
void add_scaled(int n, T a, const T* x, T* y) {
  for (int j = 0; j < n; ++j) y[j] += a * x[j];
}

template <class T>
T dot(int n, const T* x, const T* y) {
  T sum = 0;
  for (int j = 0; j < n; ++j) sum += x[j] * y[j];
  return sum;
}

template <class T>
void log_softmax(T* z) {
  const T top = std::max(std::max(z[0], z[1]), std::max(z[2], z[3]));
  double e[kBases];
  for (int b = 0; b < kBases; ++b) e[b] = std::exp(static_cast<double>(z[b] - top));
  // In pairs, so that complementing changes no bit.
  const double log_sum = std::log((e[0] + e[3]) + (e[1] + e[2])) + static_cast<double>(top);
  for (int b = 0; b < kBases; ++b) z[b] = static_cast<T>(static_cast<double>(z[b]) - log_sum);
}

template <class T>
T entropy(const T* l) {
  T term[kBases];
  for (int b = 0; b < kBases; ++b) term[b] = -std::exp(l[b]) * l[b];
  return (term[0] + term[3]) + (term[1] + term[2]);
}

}  // namespace

template <class T>
std::uint64_t MemoryMix<T>::work_bytes(const MemoryConfig& config, int workers, std::int64_t rows,
                                       bool training) {
  if (config.empty()) return 0;
  const auto orders = static_cast<std::int64_t>(config.orders.size());
  const std::int64_t values = 5 * (orders + 1) + kBases * config.hidden * (training ? 3 : 2);
  return static_cast<std::uint64_t>(workers * rows) *
         (static_cast<std::uint64_t>(values) * sizeof(T) +
          static_cast<std::uint64_t>(orders) * kBases * sizeof(std::uint32_t));
}

template <class T>
void MemoryMix<T>::forward(int worker, kernels::Backend<T>& host, const T* parameters,
                           std::span<const std::int64_t> rows, const RowCounts& counts, Work& w,
                           T* log_probs) const {
  static const LogOfCounts<T> log_base(kPseudoCount), log_all(kBases * kPseudoCount), log_seen(1);
  const std::size_t n = rows.size();
  const auto orders = static_cast<std::size_t>(orders_), inputs = orders + 1,
             hidden = static_cast<std::size_t>(hidden_);
  w.counts.resize(n * orders * kBases);
  w.evidence.resize(n * kBases * inputs);
  w.confidence.resize(n * inputs);
  w.before_gelu.resize(n * kBases * hidden);
  w.hidden.resize(n * kBases * hidden);
  counts(rows, w.counts.data());
  for (std::size_t i = 0; i < n; ++i) {
    const T* l = log_probs + i * kBases;
    T* x = w.evidence.data() + i * kBases * inputs;
    T* c = w.confidence.data() + i * inputs;
    for (std::size_t o = 0; o < orders; ++o) {
      const std::uint32_t* seen = w.counts.data() + (i * orders + o) * kBases;
      const std::uint64_t all = std::uint64_t{seen[0]} + seen[1] + seen[2] + seen[3];
      const T base = static_cast<T>(2 * std::numbers::ln2) - log_all(all);
      for (std::size_t b = 0; b < kBases; ++b) x[b * inputs + o] = log_base(seen[b]) + base;
      c[o] = static_cast<T>(kConfidenceScale) * log_seen(all);
    }
    for (std::size_t b = 0; b < kBases; ++b) x[b * inputs + orders] = l[b];
    c[orders] = entropy(l);

    T* u = w.before_gelu.data() + i * kBases * hidden;
    std::copy_n(parameters + at_.confidence_bias, hidden, u);
    for (std::size_t o = 0; o < inputs; ++o) {
      const std::size_t weights = o * hidden;
      add_scaled(hidden_, c[o], parameters + at_.confidence_weight + weights, u);
    }
    for (std::size_t b = kBases; b-- > 0;) {  // the first one last: it holds what all share
      T* ub = u + b * hidden;
      if (b > 0) std::copy_n(u, hidden, ub);
      for (std::size_t o = 0; o < inputs; ++o) {
        add_scaled(hidden_, x[b * inputs + o], parameters + at_.evidence_weight + o * hidden, ub);
      }
    }
  }
  host.gelu(worker, static_cast<std::int64_t>(n * kBases * hidden), w.before_gelu.data(),
            w.hidden.data());
  for (std::size_t i = 0; i < n; ++i) {
    T* z = log_probs + i * kBases;
    for (std::size_t b = 0; b < kBases; ++b) {
      z[b] +=
          dot(hidden_, w.hidden.data() + (i * kBases + b) * hidden, parameters + at_.output_weight);
    }
    log_softmax(z);
  }
}

template <class T>
void MemoryMix<T>::backward(int worker, kernels::Backend<T>& host, const T* parameters, int n,
                            Work& w, T* gradient, T* d_parameters) const {
  const auto inputs = static_cast<std::size_t>(orders_) + 1,
             hidden = static_cast<std::size_t>(hidden_), rows = static_cast<std::size_t>(n);
  const auto grad = [&](std::int64_t offset) { return d_parameters + offset; };
  w.d_hidden.assign(rows * kBases * hidden, T(0));
  for (std::size_t i = 0; i < rows * kBases; ++i) {
    add_scaled(hidden_, gradient[i], w.hidden.data() + i * hidden, grad(at_.output_weight));
    add_scaled(hidden_, gradient[i], parameters + at_.output_weight,
               w.d_hidden.data() + i * hidden);
  }
  host.gelu_backward(worker, static_cast<std::int64_t>(rows * kBases * hidden),
                     w.before_gelu.data(), w.d_hidden.data(), w.d_hidden.data());
  std::vector<T> shared(hidden);  // gradient of what the four bases share
  for (std::size_t i = 0; i < rows; ++i) {
    const T* x = w.evidence.data() + i * kBases * inputs;
    const T* l = x + inputs - 1;  // of base b: l[b * inputs]
    const T* c = w.confidence.data() + i * inputs;
    T* g = gradient + i * kBases;
    std::fill(shared.begin(), shared.end(), T(0));
    for (std::size_t b = 0; b < kBases; ++b) {
      const T* du = w.d_hidden.data() + (i * kBases + b) * hidden;
      add_scaled(hidden_, T(1), du, shared.data());
      for (std::size_t o = 0; o < inputs; ++o) {
        add_scaled(hidden_, x[b * inputs + o], du, grad(at_.evidence_weight) + o * hidden);
      }
      g[b] += dot(hidden_, du, parameters + at_.evidence_weight + (inputs - 1) * hidden);
    }
    add_scaled(hidden_, T(1), shared.data(), grad(at_.confidence_bias));
    for (std::size_t o = 0; o < inputs; ++o) {
      add_scaled(hidden_, c[o], shared.data(), grad(at_.confidence_weight) + o * hidden);
    }
    const T d_entropy =
        dot(hidden_, shared.data(), parameters + at_.confidence_weight + (inputs - 1) * hidden);
    T sum = 0;
    for (std::size_t b = 0; b < kBases; ++b) {
      const T log_p = l[b * inputs];
      g[b] -= d_entropy * std::exp(log_p) * (log_p + 1);
      sum += g[b];
    }
    // l = log softmax of the logits
    for (std::size_t b = 0; b < kBases; ++b) g[b] -= std::exp(l[b * inputs]) * sum;
  }
}

template class MemoryMix<float>;
template class MemoryMix<double>;

}  // namespace m5
