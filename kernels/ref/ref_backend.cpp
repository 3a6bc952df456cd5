// The oracle: every operation of kernels/backend.hpp as plain loops, one worker, T = float or
// double.
#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <new>
#include <numbers>
#include <vector>

#include "kernels/backend.hpp"
#include "kernels/ref/ref_attention.hpp"
#include "m5/error.hpp"

namespace m5::kernels {
namespace {

// W[out][in] row-major, as given.
template <class T>
struct RefLinear : Linear<T> {
  int in = 0, out = 0;
  std::vector<T> weight, bias;
};

template <class T>
T gelu_value(T x) {
  const T c = static_cast<T>(std::sqrt(2 / std::numbers::pi));
  return T(0.5) * x * (1 + std::tanh(c * (x + T(0.044715) * x * x * x)));
}

template <class T>
T gelu_slope(T x) {
  const T c = static_cast<T>(std::sqrt(2 / std::numbers::pi));
  const T t = std::tanh(c * (x + T(0.044715) * x * x * x));
  return T(0.5) * (1 + t) + T(0.5) * x * (1 - t * t) * c * (1 + 3 * T(0.044715) * x * x);
}

template <class T>
class RefBackend final : public RefAttention<T> {
 public:
  using typename Backend<T>::LinearUse;
  using typename Backend<T>::Then;
  using typename Backend<T>::AdamW;

  std::string name() const override { return "ref"; }
  int workers() const override { return 1; }
  int preferred_block_rows(std::int64_t) const override { return kRunRows; }

  void for_tiles(std::int64_t tiles,
                 const std::function<void(int worker, std::int64_t tile)>& work) override {
    for (std::int64_t tile = 0; tile < tiles; ++tile) work(0, tile);
  }

  void* allocate(std::size_t bytes) override {
    try {
      return ::operator new (std::max<std::size_t>(bytes, 1), std::align_val_t{64});
    } catch (const std::bad_alloc&) {
      throw Error(ErrorKind::kResource,
                  "out of memory: " + std::to_string(bytes) + " bytes asked for");
    }
  }
  void release(void* memory) noexcept override { ::operator delete (memory, std::align_val_t{64}); }

  // --- linear layers -------------------------------------------------------------------------
  std::unique_ptr<Linear<T>> make_linear(int in, int out, LinearUse) override {
    auto linear = std::make_unique<RefLinear<T>>();
    linear->in = in;
    linear->out = out;
    return linear;
  }

  void pack(Linear<T>& linear, const T* weight, const T* bias) override {
    auto& l = static_cast<RefLinear<T>&>(linear);
    l.weight.assign(weight, weight + std::int64_t{l.out} * l.in);
    l.bias.assign(static_cast<std::size_t>(l.out), T(0));
    if (bias) l.bias.assign(bias, bias + l.out);
  }

  // y_io = b_o + sum_k x_ik W_ok
  void linear(int, const Linear<T>& linear, int n, const T* x, T* y, Then then) override {
    const auto& l = static_cast<const RefLinear<T>&>(linear);
    for (std::int64_t i = 0; i < n; ++i) {
      for (std::int64_t o = 0; o < l.out; ++o) {
        T sum = 0;
        for (std::int64_t k = 0; k < l.in; ++k) {
          sum += x[i * l.in + k] * l.weight[static_cast<std::size_t>(o * l.in + k)];
        }
        sum += l.bias[static_cast<std::size_t>(o)];
        T& result = y[i * l.out + o];
        switch (then) {
          case Then::kStore:
            result = sum;
            break;
          case Then::kAdd:
            result += sum;
            break;
          case Then::kGelu:
            result = gelu_value(sum);
            break;
        }
      }
    }
  }

  // dx_ik = sum_o dy_io W_ok
  void linear_backward_input(int, const Linear<T>& linear, int n, const T* dy, T* dx,
                             bool add) override {
    const auto& l = static_cast<const RefLinear<T>&>(linear);
    for (std::int64_t i = 0; i < n; ++i) {
      for (std::int64_t k = 0; k < l.in; ++k) {
        T sum = 0;
        for (std::int64_t o = 0; o < l.out; ++o) {
          sum += dy[i * l.out + o] * l.weight[static_cast<std::size_t>(o * l.in + k)];
        }
        dx[i * l.in + k] = add ? dx[i * l.in + k] + sum : sum;
      }
    }
  }

  // dW_ok += sum_i dy_io x_ik, db_o += sum_i dy_io
  void linear_backward_weight(int, int in, int out, int n, const T* x, const T* dy, T* d_weight,
                              T* d_bias) override {
    for (std::int64_t o = 0; o < out; ++o) {
      for (std::int64_t k = 0; k < in; ++k) {
        T sum = 0;
        for (std::int64_t i = 0; i < n; ++i) sum += dy[i * out + o] * x[i * in + k];
        d_weight[o * in + k] += sum;
      }
      if (!d_bias) continue;
      T sum = 0;
      for (std::int64_t i = 0; i < n; ++i) sum += dy[i * out + o];
      d_bias[o] += sum;
    }
  }

  // --- rows ----------------------------------------------------------------------------------
  // x_i = b + sum_delta E[delta + w][t_{i + delta}]
  void embed(int, int n, int dim, int w, const std::uint8_t* window, const T* table, const T* bias,
             T* x) override {
    for (std::int64_t i = 0; i < n; ++i) {
      for (std::int64_t c = 0; c < dim; ++c) {
        T sum = bias[c];
        for (std::int64_t j = 0; j <= 2 * w; ++j) {
          const int token = window[i + j];
          if (token != kPad) sum += table[(j * kKinds + token) * dim + c];
        }
        x[i * dim + c] = sum;
      }
    }
  }

  void embed_backward(int, int n, int dim, int w, const std::uint8_t* window, const T* dx,
                      T* d_table, T* d_bias) override {
    for (std::int64_t i = 0; i < n; ++i) {
      for (std::int64_t c = 0; c < dim; ++c) {
        d_bias[c] += dx[i * dim + c];
        for (std::int64_t j = 0; j <= 2 * w; ++j) {
          const int token = window[i + j];
          if (token != kPad) d_table[(j * kKinds + token) * dim + c] += dx[i * dim + c];
        }
      }
    }
  }

  // y_c = x_c g_c r, r = 1 / sqrt(mean(x^2) + epsilon)
  void norm(int, int n, int dim, double epsilon, const T* x, const T* gain, T* y) override {
    for (std::int64_t i = 0; i < n; ++i, x += dim, y += dim) {
      const T r = inverse_rms(dim, epsilon, x);
      for (int c = 0; c < dim; ++c) y[c] = x[c] * r * gain[c];
    }
  }

  // dx_c += r g_c dy_c - x_c r^3 / d * sum_k g_k dy_k x_k;  dg_c += dy_c x_c r
  void norm_backward(int, int n, int dim, double epsilon, const T* x, const T* gain, const T* dy,
                     T* dx, T* d_gain) override {
    for (std::int64_t i = 0; i < n; ++i, x += dim, dy += dim, dx += dim) {
      const T r = inverse_rms(dim, epsilon, x);
      T dot = 0;
      for (int c = 0; c < dim; ++c) dot += gain[c] * dy[c] * x[c];
      for (int c = 0; c < dim; ++c) {
        dx[c] += r * gain[c] * dy[c] - x[c] * r * r * r * dot / static_cast<T>(dim);
        d_gain[c] += dy[c] * x[c] * r;
      }
    }
  }

  void to_bf16(std::int64_t count, const T* x, std::uint16_t* y) override {
    for (std::int64_t i = 0; i < count; ++i) {
      // 8 bits of fraction, fewer below the normal numbers; an overflow becomes infinity.
      int exponent;
      const auto value = static_cast<double>(x[i]);
      std::frexp(value, &exponent);
      const int last_bit = std::max(exponent, std::numeric_limits<float>::min_exponent) - 8;
      const auto rounded =
          static_cast<float>(std::ldexp(std::nearbyint(std::ldexp(value, -last_bit)), last_bit));
      y[i] = static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(rounded) >> 16);
    }
  }
  void from_bf16(std::int64_t count, const std::uint16_t* x, T* y) override {
    for (std::int64_t i = 0; i < count; ++i) {
      y[i] = static_cast<T>(std::bit_cast<float>(static_cast<std::uint32_t>(x[i]) << 16));
    }
  }
  void gelu(int, std::int64_t count, const T* x, T* y) override {
    for (std::int64_t i = 0; i < count; ++i) y[i] = gelu_value(x[i]);
  }

  void gelu_backward(int, std::int64_t count, const T* x, const T* dy, T* dx) override {
    for (std::int64_t i = 0; i < count; ++i) dx[i] = gelu_slope(x[i]) * dy[i];
  }

  // y_ic += sum_j weight_jc window_{i + j dilation, c}
  void local_conv(int, int n, int dim, int width, int dilation, const T* window, const T* weight,
                  bool flip, T* y) override {
    for (std::int64_t i = 0; i < n; ++i) {
      for (std::int64_t c = 0; c < dim; ++c) {
        T sum = 0;
        for (std::int64_t j = 0; j < width; ++j) {
          const std::int64_t tap = flip ? width - 1 - j : j;
          sum += weight[tap * dim + c] * window[(i + j * dilation) * dim + c];
        }
        y[i * dim + c] += sum;
      }
    }
  }

  void local_conv_backward_weight(int, int n, int dim, int width, int dilation, const T* window,
                                  const T* dy, T* d_weight) override {
    for (std::int64_t j = 0; j < width; ++j) {
      for (std::int64_t c = 0; c < dim; ++c) {
        T sum = 0;
        for (std::int64_t i = 0; i < n; ++i) {
          sum += dy[i * dim + c] * window[(i + j * dilation) * dim + c];
        }
        d_weight[j * dim + c] += sum;
      }
    }
  }

  // --- output head and loss ------------------------------------------------------------------
  // log_probs_b = logit_b - log sum_a exp(logit_a)
  void head(int, int n, int dim, const T* h, const T* weight, const T* bias,
            T* log_probs) override {
    for (std::int64_t i = 0; i < n; ++i) {
      T logit[4];
      for (std::int64_t b = 0; b < 4; ++b) {
        T sum = 0;
        for (std::int64_t c = 0; c < dim; ++c) sum += h[i * dim + c] * weight[b * dim + c];
        logit[b] = sum + bias[b];
      }
      const T greatest = *std::max_element(logit, logit + 4);
      T sum = 0;
      for (int b = 0; b < 4; ++b) sum += std::exp(logit[b] - greatest);
      for (int b = 0; b < 4; ++b) log_probs[i * 4 + b] = logit[b] - greatest - std::log(sum);
    }
  }

  void head_backward(int, int n, int dim, const T* h, const T* weight, const T* d_logits, T* dh,
                     T* d_weight, T* d_bias) override {
    for (std::int64_t i = 0; i < n; ++i) {
      const T* d_logit = d_logits + i * 4;
      for (std::int64_t c = 0; c < dim; ++c) dh[i * dim + c] = 0;
      for (std::int64_t b = 0; b < 4; ++b) {
        d_bias[b] += d_logit[b];
        for (std::int64_t c = 0; c < dim; ++c) {
          dh[i * dim + c] += d_logit[b] * weight[b * dim + c];
          d_weight[b * dim + c] += d_logit[b] * h[i * dim + c];
        }
      }
    }
  }

  // --- optimizer -----------------------------------------------------------------------------
  // g = scale * gradient; m = beta1 m + (1 - beta1) g; v = beta2 v + (1 - beta2) g^2;
  // p -= rate * ((m / correction1) / (sqrt(v / correction2) + epsilon) + decay * p)
  void adamw(std::int64_t count, const AdamW& step, const double* gradient, T* m, T* v,
             T* p) override {
    for (std::int64_t i = 0; i < count; ++i) {
      const double g = step.gradient_scale * gradient[i];
      m[i] = static_cast<T>(step.beta1 * m[i] + (1 - step.beta1) * g);
      v[i] = static_cast<T>(step.beta2 * v[i] + (1 - step.beta2) * g * g);
      const double direction =
          (m[i] / step.correction1) / (std::sqrt(v[i] / step.correction2) + step.epsilon);
      p[i] = static_cast<T>(p[i] - step.learning_rate * (direction + step.weight_decay * p[i]));
    }
  }

 private:
  static constexpr int kKinds = 7, kPad = 6;  // tokens (m5/tokens.hpp)

  // NaN where the squares overflow, so that it shows.
  static T inverse_rms(int dim, double epsilon, const T* x) {
    T square = 0;
    for (int c = 0; c < dim; ++c) square += x[c] * x[c];
    if (!std::isfinite(square)) return std::numeric_limits<T>::quiet_NaN();
    return 1 / std::sqrt(square / static_cast<T>(dim) + static_cast<T>(epsilon));
  }
};

}  // namespace

template <class T>
std::unique_ptr<Backend<T>> make_ref_backend() {
  return std::make_unique<RefBackend<T>>();
}
template std::unique_ptr<Backend<float>> make_ref_backend<float>();
template std::unique_ptr<Backend<double>> make_ref_backend<double>();

}  // namespace m5::kernels
