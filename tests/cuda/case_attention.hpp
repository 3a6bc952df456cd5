// The attention's operations of case_backend.hpp, and what moves numbers for all of them.
#pragma once

#include <algorithm>
#include <cmath>
#include <iterator>
#include <string>
#include <vector>

#include "attention_order.hpp"
#include "check_arrays.hpp"
#include "kernels/backend.hpp"
#include "kernels/cuda/attention.hpp"
#include "m5/error.hpp"

namespace m5::kernels::cuda {

inline constexpr int kCaseRows = 128;  // of a piece, so that cases have several

// The rows from `margin` on of a sequence that has as many rows behind them, in pieces.
struct CasePieces {
  CasePieces(Device& device, int n, std::int64_t margin = 0) {
    std::vector<Piece> pieces;
    for (int row = 0; row < n; row += kCaseRows) {
      pieces.push_back(
          {margin + row, 0, n + 2 * margin, row, std::min(kCaseRows, n - row), 0, false, 0});
    }
    own = put_typed(device, pieces);
  }
  std::int64_t count() const { return static_cast<std::int64_t>(own.size()); }
  Pieces from(std::int64_t first_row) const { return {own.data(), count(), first_row}; }
  Array<Piece> own;
};

template <class E>
class CaseAttention : public Backend<float> {
 public:
  explicit CaseAttention(Device& device) : device_(device) {}

  void bound(int, const AttentionShape&, int, std::int64_t, const float*, float*) override {
    none("bound");
  }
  void bound_backward(int, const AttentionShape&, int, std::int64_t, const float*, const float*,
                      float*) override {
    none("bound_backward");
  }
  void attention_accumulate(int, const AttentionShape& shape, int n, const float* z,
                            std::int64_t z_stride, const float* u, std::int64_t u_stride,
                            bool unit_column, double* state) override {
    const AttentionSize size = sized(shape);
    const int H = shape.heads, V = shape.value_dim;
    const Values bounded = columns(n, z, z_stride, 4 * H);
    const Values keys = unbound(size, bounded, bounded);
    const Values values = columns(n, u, u_stride, (unit_column ? V : V + 1) * H);
    if (!unit_column) {
      const auto Z = rows(size, keys, {4}), U = rows(size, values, {V, 1});
      return sum_states(shape, n, Z.data(), 4 * H, U.data(), (V + 1) * H, false, state);
    }
    const auto KV = rows(size, joined(n, keys, values), {4, V});
    sum_states(shape, n, KV.data(), (4 + V) * H, KV.data() + 4 * H, (4 + V) * H, true, state);
  }
  // What the sum of no rows does.
  void attention_scale(const AttentionShape& shape, const double* state, float* scaled) override {
    const AttentionSize size = sized(shape);
    auto total = put_typed(device_, state_to_device(size, size.batches(), state));
    const Values all = get(device_, reduced(shape, 0, nullptr, total));
    copy(state_of_device(size, size.batches(), all.data()), scaled);
  }
  void attention_query(int, const AttentionShape& shape, int n, const float* q,
                       std::int64_t q_stride, const float* scaled, float* o,
                       float* weight_sum) override {
    const AttentionSize size = sized(shape);
    const int H = shape.heads, V = shape.value_dim;
    const CasePieces pieces(device_, n);
    const Values bounded = columns(n, q, q_stride, 4 * H);
    const auto Q = rows(size, unbound(size, bounded, bounded), {4});
    const auto S = put<float>(device_, state_to_device(size, size.batches(), scaled));
    auto O = room<E>(device_, std::int64_t{n} * V * H);
    auto sum = room<float>(device_, std::int64_t{n} * H);
    query(device_, size, pieces.from(0), Q.data(), S.data(), O.data(), sum.data());
    copy(reordered(size, get(device_, O), {V}, false), o);
    copy(get(device_, sum), weight_sum);
  }
  void attention_query_backward(int, const AttentionShape& shape, int n, const float* q,
                                std::int64_t q_stride, const float* scaled, const float* o,
                                const float* weight_sum, const float* d_o, float*, float* dq,
                                double* d_scaled) override {
    const AttentionSize size = sized(shape);
    const int H = shape.heads, V = shape.value_dim;
    const CasePieces pieces(device_, n);
    const Values bounded = columns(n, q, q_stride, 4 * H);
    const auto Q = rows(size, unbound(size, bounded, bounded), {4}),
               O = rows(size, columns(n, o, V * H, V * H), {V}),
               D = rows(size, columns(n, d_o, V * H, V * H), {V});
    const auto S = put<float>(device_, state_to_device(size, size.batches(), scaled)),
               sum = wide(weight_sum, std::int64_t{n} * H);
    auto DQ = room<E>(device_, std::int64_t{n} * 4 * H),
         DU = room<E>(device_, std::int64_t{n} * (V + 1) * H);
    query_backward(device_, size, pieces.from(0), Q.data(), S.data(), O.data(), sum.data(),
                   D.data(), DQ.data(), DU.data());
    copy(unbound(size, bounded, reordered(size, get(device_, DQ), {4}, false), true), dq);
    sum_states(shape, n, Q.data(), 4 * H, DU.data(), (V + 1) * H, false, d_scaled);
  }
  void attention_accumulate_backward(int, const AttentionShape& shape, int n, const float* k,
                                     std::int64_t k_stride, const float* v, std::int64_t v_stride,
                                     const float* d_state, float* dk, float* dv) override {
    const AttentionSize size = sized(shape);
    const int H = shape.heads, V = shape.value_dim;
    const CasePieces pieces(device_, n);
    const Values bounded = columns(n, k, k_stride, 4 * H);
    const Values kv = joined(n, unbound(size, bounded, bounded), columns(n, v, v_stride, V * H));
    const auto S = put<float>(device_, state_to_device(size, 1, d_state));
    auto D = room<E>(device_, std::int64_t{n} * (4 + V) * H);
    accumulate_backward(device_, size, pieces.from(0), rows(size, kv, {4, V}).data(), S.data(),
                        D.data());
    const Values d_kv = reordered(size, get(device_, D), {4, V}, false);
    const std::int64_t stride = std::int64_t{4 + V} * H;
    const Values d_keys = unbound(size, bounded, columns(n, d_kv.data(), stride, 4 * H), true),
                 d_values = columns(n, d_kv.data() + 4 * H, stride, V * H);
    for (int i = 0; i < n; ++i) {
      std::copy_n(d_keys.begin() + std::int64_t{i} * 4 * H, 4 * H, dk + i * k_stride);
      std::copy_n(d_values.begin() + std::int64_t{i} * V * H, V * H, dv + i * v_stride);
    }
  }

 protected:
  static constexpr bool kNarrow = !std::is_same_v<E, float>;

  [[noreturn]] static void none(const char* operation) {
    throw Error(ErrorKind::kInternal, std::string("no kernel of the CUDA device is ") + operation);
  }
  Array<E> operand(const float* x, std::int64_t count) {
    return put<E>(device_, Values(x, x + count));
  }
  Array<float> wide(const float* x, std::int64_t count) {
    return put<float>(device_, Values(x, x + count));
  }
  Array<float> ones(std::int64_t count) {
    return put<float>(device_, Values(static_cast<std::size_t>(count), 1.0));
  }
  static void copy(const Values& from, float* to) {
    std::transform(from.begin(), from.end(), to, [](double v) { return static_cast<float>(v); });
  }
  template <class T>
  void store(const Array<T>& from, float* to) {
    copy(get(device_, from), to);
  }

  Device& device_;

 private:
  static AttentionSize sized(const AttentionShape& shape) {
    const AttentionSize size = size_of(shape, false);
    return size_of(shape, kNarrow && size.can_use_tensor_cores());
  }
  // The first `count` columns of n rows.
  template <class T>
  static Values columns(int n, const T* from, std::int64_t stride, int count) {
    Values out;
    for (int i = 0; i < n; ++i) out.insert(out.end(), from + i * stride, from + i * stride + count);
    return out;
  }
  // Rows of the columns of both.
  static Values joined(int n, const Values& a, const Values& b) {
    const std::ptrdiff_t of_a = std::ssize(a) / n, of_b = std::ssize(b) / n;
    Values out;
    for (int i = 0; i < n; ++i) {
      out.insert(out.end(), a.begin() + i * of_a, a.begin() + (i + 1) * of_a);
      out.insert(out.end(), b.begin() + i * of_b, b.begin() + (i + 1) * of_b);
    }
    return out;
  }
  Array<E> rows(const AttentionSize& size, const Values& own, const std::vector<int>& components) {
    return put<E>(device_, reordered(size, own, components, true));
  }
  // Of bounded z [n][4][H]: x as it was before its length was bounded, z = s x, or, of a gradient
  // by x, the gradient by z, from dx = s (dz - z (z.dz) / R). s = sqrt((R - |z|^2) / R).
  static Values unbound(const AttentionSize& size, const Values& z, Values x,
                        bool gradient = false) {
    const auto H = static_cast<std::size_t>(size.heads);
    const auto R = static_cast<double>(size.bound);
    for (std::size_t i = 0; i < z.size() / 4; ++i) {
      const std::size_t first = i / H * 4 * H + i % H, end = first + 4 * H;
      double square = 0, dot = 0;
      for (std::size_t at = first; at < end; at += H) {
        square += z[at] * z[at];
        dot += z[at] * x[at];
      }
      for (std::size_t at = first; at < end; at += H) {
        if (gradient) x[at] += z[at] * dot / (R - square);
        x[at] /= std::sqrt((R - square) / R);
      }
    }
    return x;
  }
  // state += the sum over n rows.
  void sum_states(const AttentionShape& shape, int n, const E* z, std::int64_t z_stride, const E* u,
                  std::int64_t u_stride, bool unit_column, double* state) {
    const AttentionSize size = sized(shape);
    const CasePieces pieces(device_, n);
    const int batches = unit_column ? size.batches() : 1;  // what has the last column
    auto partial = room<float>(device_, pieces.count() * size.state());
    accumulate(device_, size, pieces.from(0), z, z_stride, u, u_stride, unit_column,
               partial.data());
    auto total = put_typed(device_, state_to_device(size, batches, state));
    reduced(shape, static_cast<std::int32_t>(pieces.count()), partial.data(), total);
    const Values sum = state_of_device(size, batches, get_typed(device_, total).data());
    std::copy(sum.begin(), sum.end(), state);
  }
  // total += partial states; scaled by their weights.
  Array<float> reduced(const AttentionShape& shape, std::int32_t pieces, const float* partial,
                       Array<double>& total) {
    const AttentionSize size = sized(shape);
    const auto span = put_typed(device_, std::vector<Span>{{0, 0, pieces, false, true}});
    const auto weights = put_typed(device_, state_weights(size, shape.polynomial));
    auto scaled = room<float>(device_, size.state());
    reduce_states(device_, size, span.data(), 1, partial, weights.data(), total.data(),
                  scaled.data());
    return scaled;
  }
};

}  // namespace m5::kernels::cuda
