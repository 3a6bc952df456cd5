// The attention operations of the reference backend.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "kernels/backend.hpp"
#include "kernels/math/monomials.hpp"

namespace m5::kernels {

inline constexpr int kZ = 4;  // components of a query or key

// z^e for every component and exponent e <= order.
template <class T>
struct Powers {
  T power[kZ][9];
  Powers(const T* z, std::int64_t component_stride, int order) {
    for (int a = 0; a < kZ; ++a) {
      power[a][0] = 1;
      for (int e = 1; e <= order; ++e) power[a][e] = power[a][e - 1] * z[a * component_stride];
    }
  }
  // z^alpha
  T monomial(const Monomial& m) const {
    return power[0][m.exponent[0]] * power[1][m.exponent[1]] * power[2][m.exponent[2]] *
           power[3][m.exponent[3]];
  }
  // d z^alpha / d z_a
  T slope(const Monomial& m, int a) const {
    const int e = m.exponent[static_cast<std::size_t>(a)];
    if (e == 0) return 0;
    T value = static_cast<T>(e) * power[a][e - 1];
    for (int b = 0; b < kZ; ++b) {
      if (b != a) value *= power[b][m.exponent[static_cast<std::size_t>(b)]];
    }
    return value;
  }
};

template <class T>
class RefAttention : public Backend<T> {
 public:
  // z' = s z, s = sqrt(R / (R + |z|^2))
  void bound(int, const AttentionShape& shape, int n, std::int64_t stride, const T* z,
             T* bounded) override {
    const std::int64_t H = shape.heads;
    const T R = static_cast<T>(shape.bound);
    for (std::int64_t i = 0; i < n; ++i) {
      for (std::int64_t h = 0; h < H; ++h) {
        const T* in = z + i * stride + h;
        T square = 0;
        for (int a = 0; a < kZ; ++a) square += in[a * H] * in[a * H];
        const T s = std::sqrt(R / (R + square));
        for (int a = 0; a < kZ; ++a) bounded[i * stride + a * H + h] = s * in[a * H];
      }
    }
  }

  // dz = s (dz' - z' (z'.dz') / R)
  void bound_backward(int, const AttentionShape& shape, int n, std::int64_t stride, const T* z,
                      const T* d_bounded, T* dz) override {
    const std::int64_t H = shape.heads;
    const T R = static_cast<T>(shape.bound);
    for (std::int64_t i = 0; i < n; ++i) {
      for (std::int64_t h = 0; h < H; ++h) {
        const T* in = z + i * stride + h;
        const T* d = d_bounded + i * stride + h;
        T square = 0, dot = 0;
        for (int a = 0; a < kZ; ++a) square += in[a * H] * in[a * H];
        const T s = std::sqrt(R / (R + square));
        for (int a = 0; a < kZ; ++a) dot += s * in[a * H] * d[a * H];
        for (int a = 0; a < kZ; ++a) {
          dz[i * stride + a * H + h] = s * (d[a * H] - s * in[a * H] * dot / R);
        }
      }
    }
  }

  // S_fch += sum_i m_f(z_ih) u_ich
  void attention_accumulate(int, const AttentionShape& shape, int n, const T* z,
                            std::int64_t z_stride, const T* u, std::int64_t u_stride,
                            bool unit_column, double* state) override {
    const std::vector<Monomial> m = monomials(shape.order);
    const std::int64_t H = shape.heads, C = shape.columns();
    std::vector<T> run(static_cast<std::size_t>(shape.state_size()));
    for (int begin = 0; begin < n; begin += kRunRows) {
      std::fill(run.begin(), run.end(), T(0));
      for (std::int64_t i = begin; i < std::min(n, begin + kRunRows); ++i) {
        for (std::int64_t h = 0; h < H; ++h) {
          const Powers<T> powers(z + i * z_stride + h, H, shape.order);
          for (std::int64_t f = 0; f < shape.features; ++f) {
            const T value = powers.monomial(m[static_cast<std::size_t>(f)]);
            for (std::int64_t c = 0; c < C; ++c) {
              const bool unit = unit_column && c == C - 1;
              run[static_cast<std::size_t>((f * C + c) * H + h)] +=
                  unit ? value : value * u[i * u_stride + c * H + h];
            }
          }
        }
      }
      for (std::size_t j = 0; j < run.size(); ++j) state[j] += static_cast<double>(run[j]);
    }
  }

  // scaled_f = c_|f| |f|!/f! S_f
  void attention_scale(const AttentionShape& shape, const double* state, T* scaled) override {
    const std::vector<Monomial> m = monomials(shape.order);
    const std::int64_t width = std::int64_t{shape.columns()} * shape.heads;
    for (std::int64_t f = 0; f < shape.features; ++f) {
      const Monomial& mf = m[static_cast<std::size_t>(f)];
      const double factor = shape.polynomial[static_cast<std::size_t>(mf.degree)] * multinomial(mf);
      for (std::int64_t j = 0; j < width; ++j) {
        scaled[f * width + j] = static_cast<T>(factor * state[f * width + j]);
      }
    }
  }

  // u_c = sum_f m_f(q) scaled_fc; o_c = u_c / u_dv
  void attention_query(int, const AttentionShape& shape, int n, const T* q, std::int64_t q_stride,
                       const T* scaled, T* o, T* weight_sum) override {
    const std::vector<Monomial> m = monomials(shape.order);
    const std::int64_t H = shape.heads, V = shape.value_dim, C = V + 1;
    std::vector<T> u(static_cast<std::size_t>(C));
    for (std::int64_t i = 0; i < n; ++i) {
      for (std::int64_t h = 0; h < H; ++h) {
        const Powers<T> powers(q + i * q_stride + h, H, shape.order);
        std::fill(u.begin(), u.end(), T(0));
        for (std::int64_t f = 0; f < shape.features; ++f) {
          const T value = powers.monomial(m[static_cast<std::size_t>(f)]);
          for (std::int64_t c = 0; c < C; ++c) {
            u[static_cast<std::size_t>(c)] += value * scaled[(f * C + c) * H + h];
          }
        }
        const T total = u[static_cast<std::size_t>(V)];
        weight_sum[i * H + h] = total;
        for (std::int64_t c = 0; c < V; ++c) {
          o[(i * V + c) * H + h] = u[static_cast<std::size_t>(c)] / total;
        }
      }
    }
  }

  // du_c = g_c / n, du_dv = -(g.o) / n with n = weight_sum; d_scaled += m(q) du;
  // dq_a = sum_f dm_f dm_f/dq_a with dm_f = sum_c scaled_fc du_c
  void attention_query_backward(int worker, const AttentionShape& shape, int n, const T* q,
                                std::int64_t q_stride, const T* scaled, const T* o,
                                const T* weight_sum, const T* d_o, T* du, T* dq,
                                double* d_scaled) override {
    const std::vector<Monomial> m = monomials(shape.order);
    const std::int64_t H = shape.heads, V = shape.value_dim, C = V + 1;
    for (std::int64_t i = 0; i < n; ++i) {
      for (std::int64_t h = 0; h < H; ++h) {
        const T total = weight_sum[i * H + h];
        T dot = 0;
        for (std::int64_t c = 0; c < V; ++c) {
          const T g = d_o[(i * V + c) * H + h];
          dot += g * o[(i * V + c) * H + h];
          du[(i * C + c) * H + h] = g / total;
        }
        du[(i * C + V) * H + h] = -dot / total;

        const Powers<T> powers(q + i * q_stride + h, H, shape.order);
        T slope[kZ] = {};
        for (std::int64_t f = 0; f < shape.features; ++f) {
          T dm = 0;
          for (std::int64_t c = 0; c < C; ++c) {
            dm += scaled[(f * C + c) * H + h] * du[(i * C + c) * H + h];
          }
          for (int a = 0; a < kZ; ++a) {
            slope[a] += dm * powers.slope(m[static_cast<std::size_t>(f)], a);
          }
        }
        for (int a = 0; a < kZ; ++a) dq[i * q_stride + a * H + h] = slope[a];
      }
    }
    attention_accumulate(worker, shape, n, q, q_stride, du, C * H, false, d_scaled);
  }

  // dv_c = sum_f m_f(k) d_state_fc; dk_a = sum_f dm_f dm_f/dk_a with dm_f = sum_c d_state_fc [v;
  // 1]_c
  void attention_accumulate_backward(int, const AttentionShape& shape, int n, const T* k,
                                     std::int64_t k_stride, const T* v, std::int64_t v_stride,
                                     const T* d_state, T* dk, T* dv) override {
    const std::vector<Monomial> m = monomials(shape.order);
    const std::int64_t H = shape.heads, V = shape.value_dim, C = V + 1;
    std::vector<T> d_value(static_cast<std::size_t>(V));
    for (std::int64_t i = 0; i < n; ++i) {
      for (std::int64_t h = 0; h < H; ++h) {
        const Powers<T> powers(k + i * k_stride + h, H, shape.order);
        std::fill(d_value.begin(), d_value.end(), T(0));
        T slope[kZ] = {};
        for (std::int64_t f = 0; f < shape.features; ++f) {
          const Monomial& mf = m[static_cast<std::size_t>(f)];
          const T value = powers.monomial(mf);
          T dm = d_state[(f * C + V) * H + h];
          for (std::int64_t c = 0; c < V; ++c) {
            const T d = d_state[(f * C + c) * H + h];
            d_value[static_cast<std::size_t>(c)] += value * d;
            dm += d * v[i * v_stride + c * H + h];
          }
          for (int a = 0; a < kZ; ++a) slope[a] += dm * powers.slope(mf, a);
        }
        for (int a = 0; a < kZ; ++a) dk[i * k_stride + a * H + h] = slope[a];
        for (std::int64_t c = 0; c < V; ++c) {
          dv[i * v_stride + c * H + h] = d_value[static_cast<std::size_t>(c)];
        }
      }
    }
  }
};

}  // namespace m5::kernels
