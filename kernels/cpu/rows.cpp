// Kernels over rows of the residual stream: lanes = columns.

#include "kernels/cpu/targets.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/cpu/by_lanes.hpp"
#include "kernels/cpu/simd.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/rows.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
// After highway.h: it is compiled once per target, too.
#include <hwy/contrib/math/math-inl.h>

HWY_BEFORE_NAMESPACE();
namespace m5::kernels::simd {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

constexpr int kTokens = 7;
constexpr int kPad = 6;

template <class D>
void embed_lanes(D d, int dim, int n, int w, const std::uint8_t* window, const float* table,
                 const float* bias, float* x) {
  const int taps = 2 * w + 1, lanes = static_cast<int>(hn::Lanes(d));
  for (int i = 0; i < n; ++i, x += dim) {
    for (int c = 0; c < dim; c += lanes) {
      auto sum = hn::LoadU(d, bias + c);
      for (int tap = 0; tap < taps; ++tap) {
        const int token = window[i + tap];
        if (token == kPad) continue;
        sum = hn::Add(sum, hn::LoadU(d, table + (tap * kTokens + token) * dim + c));
      }
      hn::StoreU(sum, d, x + c);
    }
  }
}

template <class D>
void embed_backward_lanes(D d, int dim, int n, int w, const std::uint8_t* window, const float* dx,
                          float* d_table, float* d_bias) {
  const int taps = 2 * w + 1, lanes = static_cast<int>(hn::Lanes(d));
  for (int i = 0; i < n; ++i, dx += dim) {
    for (int c = 0; c < dim; c += lanes) {
      const auto g = hn::LoadU(d, dx + c);
      hn::StoreU(hn::Add(hn::LoadU(d, d_bias + c), g), d, d_bias + c);
      for (int tap = 0; tap < taps; ++tap) {
        const int token = window[i + tap];
        if (token == kPad) continue;
        float* out = d_table + (tap * kTokens + token) * dim + c;
        hn::StoreU(hn::Add(hn::LoadU(d, out), g), d, out);
      }
    }
  }
}

// 1 / sqrt(mean(x^2) + epsilon); NaN where the squares overflow, so that it shows.
template <class D>
HWY_INLINE float inverse_rms(D d, int dim, float epsilon, const float* x) {
  auto sum = hn::Zero(d);
  for (int c = 0; c < dim; c += static_cast<int>(hn::Lanes(d))) {
    const auto v = hn::LoadU(d, x + c);
    sum = hn::MulAdd(v, v, sum);
  }
  const float square = hn::GetLane(hn::SumOfLanes(d, sum));
  if (!std::isfinite(square)) return std::numeric_limits<float>::quiet_NaN();
  return 1.0f / std::sqrt(square / static_cast<float>(dim) + epsilon);
}

template <class D>
void norm_lanes(D d, int dim, int n, float epsilon, const float* x, const float* gain, float* y) {
  const int lanes = static_cast<int>(hn::Lanes(d));
  for (int i = 0; i < n; ++i, x += dim, y += dim) {
    const auto r = hn::Set(d, inverse_rms(d, dim, epsilon, x));
    for (int c = 0; c < dim; c += lanes) {
      hn::StoreU(hn::Mul(hn::Mul(hn::LoadU(d, x + c), r), hn::LoadU(d, gain + c)), d, y + c);
    }
  }
}

// With r = 1/rms: dx += r (g dy - x r^2 mean(x g dy)); d_gain += dy x r.
template <class D>
void norm_backward_lanes(D d, int dim, int n, float epsilon, const float* x, const float* gain,
                         const float* dy, float* dx, float* d_gain) {
  const int lanes = static_cast<int>(hn::Lanes(d));
  for (int i = 0; i < n; ++i, x += dim, dy += dim, dx += dim) {
    const float r = inverse_rms(d, dim, epsilon, x);
    const auto vr = hn::Set(d, r);
    auto dot = hn::Zero(d);
    for (int c = 0; c < dim; c += lanes) {
      const auto vx = hn::LoadU(d, x + c), vy = hn::LoadU(d, dy + c);
      dot = hn::MulAdd(vx, hn::Mul(vy, hn::LoadU(d, gain + c)), dot);
      hn::StoreU(hn::MulAdd(vy, hn::Mul(vx, vr), hn::LoadU(d, d_gain + c)), d, d_gain + c);
    }
    const float mean = hn::GetLane(hn::SumOfLanes(d, dot)) / static_cast<float>(dim);
    const auto along = hn::Set(d, r * r * mean);
    for (int c = 0; c < dim; c += lanes) {
      const auto g = hn::Mul(hn::LoadU(d, dy + c), hn::LoadU(d, gain + c));
      const auto slope = hn::NegMulAdd(hn::LoadU(d, x + c), along, g);
      hn::StoreU(hn::MulAdd(vr, slope, hn::LoadU(d, dx + c)), d, dx + c);
    }
  }
}

// gelu(x) = x s, s = 1 / (1 + exp(-2 y)), y = sqrt(2/pi) (x + 0.044715 x^3): the tanh form.
template <class D, class V>
HWY_INLINE V gelu_gate(D d, V x) {
  const auto y2 = hn::Mul(hn::Mul(hn::Set(d, -1.5957691216057308f), x),
                          hn::MulAdd(hn::Mul(x, x), hn::Set(d, 0.044715f), hn::Set(d, 1.0f)));
  return hn::Div(hn::Set(d, 1.0f),
                 hn::Add(hn::Set(d, 1.0f), hn::Exp(d, hn::Min(y2, hn::Set(d, 80.0f)))));
}

// count is a multiple of 8.
template <class D>
void gelu_lanes(D d, std::int64_t count, const float* x, float* y) {
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  for (std::int64_t i = 0; i < count; i += lanes) {
    const auto v = hn::LoadU(d, x + i);
    hn::StoreU(hn::Mul(v, gelu_gate(d, v)), d, y + i);
  }
}

// gelu' = s + x s (1 - s) dy2/dx, dy2/dx = 2 sqrt(2/pi) (1 + 3 * 0.044715 x^2).
template <class D>
void gelu_backward_lanes(D d, std::int64_t count, const float* x, const float* dy, float* dx) {
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  for (std::int64_t i = 0; i < count; i += lanes) {
    const auto v = hn::LoadU(d, x + i);
    const auto s = gelu_gate(d, v);
    const auto slope = hn::Mul(hn::Set(d, 1.5957691216057308f),
                               hn::MulAdd(hn::Mul(v, v), hn::Set(d, 0.134145f), hn::Set(d, 1.0f)));
    const auto bend = hn::Mul(hn::Mul(v, s), hn::Sub(hn::Set(d, 1.0f), s));
    hn::StoreU(hn::Mul(hn::LoadU(d, dy + i), hn::MulAdd(bend, slope, s)), d, dx + i);
  }
}

template <class D>
void local_conv_lanes(D d, int dim, int n, int width, int dilation, const float* window,
                      const float* weight, bool flip, float* y) {
  const int lanes = static_cast<int>(hn::Lanes(d));
  for (int i = 0; i < n; ++i) {
    for (int c = 0; c < dim; c += lanes) {
      float* out = y + static_cast<std::int64_t>(i) * dim + c;
      auto sum = hn::LoadU(d, out);
      for (int j = 0; j < width; ++j) {
        const float* tap = weight + (flip ? width - 1 - j : j) * dim + c;
        const float* row = window + static_cast<std::int64_t>(i + j * dilation) * dim + c;
        sum = hn::MulAdd(hn::LoadU(d, tap), hn::LoadU(d, row), sum);
      }
      hn::StoreU(sum, d, out);
    }
  }
}

template <class D>
void local_conv_backward_weight_lanes(D d, int dim, int n, int width, int dilation,
                                      const float* window, const float* dy, float* d_weight) {
  const int lanes = static_cast<int>(hn::Lanes(d));
  for (int j = 0; j < width; ++j) {
    const float* rows = window + static_cast<std::int64_t>(j * dilation) * dim;
    for (int c = 0; c < dim; c += lanes) {
      auto sum = hn::LoadU(d, d_weight + j * dim + c);
      for (int i = 0; i < n; ++i) {
        const std::int64_t at = static_cast<std::int64_t>(i) * dim + c;
        sum = hn::MulAdd(hn::LoadU(d, dy + at), hn::LoadU(d, rows + at), sum);
      }
      hn::StoreU(sum, d, d_weight + j * dim + c);
    }
  }
}

template <class D>
void add_column_sums_lanes(D d, int dim, int n, const float* x, float* sums) {
  const int lanes = static_cast<int>(hn::Lanes(d));
  for (int c = 0; c < dim; c += lanes) {
    auto sum = hn::LoadU(d, sums + c);
    for (int i = 0; i < n; ++i) {
      sum = hn::Add(sum, hn::LoadU(d, x + static_cast<std::int64_t>(i) * dim + c));
    }
    hn::StoreU(sum, d, sums + c);
  }
}

template <class D>
void head_lanes(D d, int dim, int n, const float* h, const float* weight, const float* bias,
                float* log_probs) {
  const int lanes = static_cast<int>(hn::Lanes(d));
  for (int i = 0; i < n; ++i, h += dim, log_probs += 4) {
    auto s0 = hn::Zero(d), s1 = s0, s2 = s0, s3 = s0;
    for (int c = 0; c < dim; c += lanes) {
      const auto v = hn::LoadU(d, h + c);
      s0 = hn::MulAdd(v, hn::LoadU(d, weight + c), s0);
      s1 = hn::MulAdd(v, hn::LoadU(d, weight + dim + c), s1);
      s2 = hn::MulAdd(v, hn::LoadU(d, weight + 2 * dim + c), s2);
      s3 = hn::MulAdd(v, hn::LoadU(d, weight + 3 * dim + c), s3);
    }
    const float logit[4] = {
        hn::GetLane(hn::SumOfLanes(d, s0)) + bias[0], hn::GetLane(hn::SumOfLanes(d, s1)) + bias[1],
        hn::GetLane(hn::SumOfLanes(d, s2)) + bias[2], hn::GetLane(hn::SumOfLanes(d, s3)) + bias[3]};
    const float top = std::max(std::max(logit[0], logit[1]), std::max(logit[2], logit[3]));
    double sum = 0;
    for (float l : logit) sum += std::exp(static_cast<double>(l) - static_cast<double>(top));
    const double log_sum = static_cast<double>(top) + std::log(sum);
    for (int b = 0; b < 4; ++b) {
      log_probs[b] = static_cast<float>(static_cast<double>(logit[b]) - log_sum);
    }
  }
}

template <class D>
void head_backward_lanes(D d, int dim, int n, const float* h, const float* weight,
                         const float* d_logits, float* dh, float* d_weight, float* d_bias) {
  const int lanes = static_cast<int>(hn::Lanes(d));
  for (int i = 0; i < n; ++i, h += dim, dh += dim, d_logits += 4) {
    for (int b = 0; b < 4; ++b) d_bias[b] += d_logits[b];
    for (int c = 0; c < dim; c += lanes) {
      const auto v = hn::LoadU(d, h + c);
      auto sum = hn::Zero(d);
      for (int b = 0; b < 4; ++b) {
        const auto gb = hn::Set(d, d_logits[b]);
        float* out = d_weight + b * dim + c;
        sum = hn::MulAdd(gb, hn::LoadU(d, weight + b * dim + c), sum);
        hn::StoreU(hn::MulAdd(gb, v, hn::LoadU(d, out)), d, out);
      }
      hn::StoreU(sum, d, dh + c);
    }
  }
}

void embed(int n, int dim, int w, const std::uint8_t* window, const float* table, const float* bias,
           float* x) {
  M5_BY_LANES(dim, embed_lanes, dim, n, w, window, table, bias, x);
}
void embed_backward(int n, int dim, int w, const std::uint8_t* window, const float* dx,
                    float* d_table, float* d_bias) {
  M5_BY_LANES(dim, embed_backward_lanes, dim, n, w, window, dx, d_table, d_bias);
}
void norm(int n, int dim, float epsilon, const float* x, const float* gain, float* y) {
  M5_BY_LANES(dim, norm_lanes, dim, n, epsilon, x, gain, y);
}
void norm_backward(int n, int dim, float epsilon, const float* x, const float* gain,
                   const float* dy, float* dx, float* d_gain) {
  M5_BY_LANES(dim, norm_backward_lanes, dim, n, epsilon, x, gain, dy, dx, d_gain);
}
void gelu(std::int64_t count, const float* x, float* y) {
  M5_BY_LANES(count, gelu_lanes, count, x, y);
}
void gelu_backward(std::int64_t count, const float* x, const float* dy, float* dx) {
  M5_BY_LANES(count, gelu_backward_lanes, count, x, dy, dx);
}
void local_conv(int n, int dim, int width, int dilation, const float* window, const float* weight,
                bool flip, float* y) {
  M5_BY_LANES(dim, local_conv_lanes, dim, n, width, dilation, window, weight, flip, y);
}
void local_conv_backward_weight(int n, int dim, int width, int dilation, const float* window,
                                const float* dy, float* d_weight) {
  M5_BY_LANES(dim, local_conv_backward_weight_lanes, dim, n, width, dilation, window, dy, d_weight);
}
void add_column_sums(int n, int dim, const float* x, float* sums) {
  M5_BY_LANES(dim, add_column_sums_lanes, dim, n, x, sums);
}
void head(int n, int dim, const float* h, const float* weight, const float* bias,
          float* log_probs) {
  M5_BY_LANES(dim, head_lanes, dim, n, h, weight, bias, log_probs);
}
void head_backward(int n, int dim, const float* h, const float* weight, const float* d_logits,
                   float* dh, float* d_weight, float* d_bias) {
  M5_BY_LANES(dim, head_backward_lanes, dim, n, h, weight, d_logits, dh, d_weight, d_bias);
}

}  // namespace HWY_NAMESPACE
}  // namespace m5::kernels::simd
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace m5::kernels::simd {

HWY_EXPORT(embed);
HWY_EXPORT(embed_backward);
HWY_EXPORT(norm);
HWY_EXPORT(norm_backward);
HWY_EXPORT(gelu);
HWY_EXPORT(gelu_backward);
HWY_EXPORT(local_conv);
HWY_EXPORT(local_conv_backward_weight);
HWY_EXPORT(add_column_sums);
HWY_EXPORT(head);
HWY_EXPORT(head_backward);

void embed(int n, int dim, int w, const std::uint8_t* window, const float* table, const float* bias,
           float* x) {
  HWY_DYNAMIC_DISPATCH(embed)(n, dim, w, window, table, bias, x);
}
void embed_backward(int n, int dim, int w, const std::uint8_t* window, const float* dx,
                    float* d_table, float* d_bias) {
  HWY_DYNAMIC_DISPATCH(embed_backward)(n, dim, w, window, dx, d_table, d_bias);
}
void norm(int n, int dim, float epsilon, const float* x, const float* gain, float* y) {
  HWY_DYNAMIC_DISPATCH(norm)(n, dim, epsilon, x, gain, y);
}
void norm_backward(int n, int dim, float epsilon, const float* x, const float* gain,
                   const float* dy, float* dx, float* d_gain) {
  HWY_DYNAMIC_DISPATCH(norm_backward)(n, dim, epsilon, x, gain, dy, dx, d_gain);
}
void gelu(std::int64_t count, const float* x, float* y) { HWY_DYNAMIC_DISPATCH(gelu)(count, x, y); }
void gelu_backward(std::int64_t count, const float* x, const float* dy, float* dx) {
  HWY_DYNAMIC_DISPATCH(gelu_backward)(count, x, dy, dx);
}
void local_conv(int n, int dim, int width, int dilation, const float* window, const float* weight,
                bool flip, float* y) {
  HWY_DYNAMIC_DISPATCH(local_conv)(n, dim, width, dilation, window, weight, flip, y);
}
void local_conv_backward_weight(int n, int dim, int width, int dilation, const float* window,
                                const float* dy, float* d_weight) {
  HWY_DYNAMIC_DISPATCH(local_conv_backward_weight)(n, dim, width, dilation, window, dy, d_weight);
}
void add_column_sums(int n, int dim, const float* x, float* sums) {
  HWY_DYNAMIC_DISPATCH(add_column_sums)(n, dim, x, sums);
}
void head(int n, int dim, const float* h, const float* weight, const float* bias,
          float* log_probs) {
  HWY_DYNAMIC_DISPATCH(head)(n, dim, h, weight, bias, log_probs);
}
void head_backward(int n, int dim, const float* h, const float* weight, const float* d_logits,
                   float* dh, float* d_weight, float* d_bias) {
  HWY_DYNAMIC_DISPATCH(head_backward)(n, dim, h, weight, d_logits, dh, d_weight, d_bias);
}

}  // namespace m5::kernels::simd
#endif
