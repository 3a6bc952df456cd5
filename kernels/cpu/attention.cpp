// Attention forward: sums of monomials times values, and their application to queries.

#include "kernels/cpu/targets.hpp"

#include <algorithm>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/attention.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/cpu/attention_tables.hpp"

HWY_BEFORE_NAMESPACE();
namespace m5::kernels::simd {
namespace HWY_NAMESPACE {

// Highest chunk of columns first: 9 = the usual 8 values and the weight.
inline int next_chunk(int columns) {
  if (columns == 9 || (columns > 9 && columns % 8 == 1)) return 9;
  return columns >= 8 ? 8 : columns >= 4 ? 4 : columns >= 2 ? 2 : 1;
}

// sums[f][c] += sum over rows of m_f u_c for kFeatures features from f on and kColumns columns from
// c0 on. The arrays of accumulators live in registers: all loops over them are unrolled.
template <int kFeatures, int kColumns, class D>
HWY_INLINE void accumulate_block(D d, const ProductTable& product, int f, int rows, const float* t,
                                 const float* u, int columns, int c0, float* sums) {
  using V = hn::Vec<D>;
  const std::size_t lanes = hn::Lanes(d);
  V sum[kFeatures][kColumns];
  const float *left[kFeatures], *right[kFeatures];
  for (int i = 0; i < kFeatures; ++i) {
    left[i] = t + static_cast<std::size_t>(product.left[f + i]) * lanes;
    right[i] = t + static_cast<std::size_t>(product.right[f + i]) * lanes;
    for (int c = 0; c < kColumns; ++c) {
      sum[i][c] = hn::Load(d, sums + static_cast<std::size_t>((f + i) * columns + c0 + c) * lanes);
    }
  }
  const float* row_u = u + static_cast<std::size_t>(c0) * lanes;
  std::size_t at = 0;
  for (int r = 0; r < rows; ++r) {
    V m[kFeatures];
    for (int i = 0; i < kFeatures; ++i) {
      m[i] = hn::Mul(hn::Load(d, left[i] + at), hn::Load(d, right[i] + at));
    }
    for (int c = 0; c < kColumns; ++c) {
      const V value = in_register(hn::Load(d, row_u + static_cast<std::size_t>(c) * lanes));
      for (int i = 0; i < kFeatures; ++i) sum[i][c] = hn::MulAdd(m[i], value, sum[i][c]);
    }
    at += static_cast<std::size_t>(product.half_features) * lanes;
    row_u += static_cast<std::size_t>(columns) * lanes;
  }
  for (int i = 0; i < kFeatures; ++i) {
    for (int c = 0; c < kColumns; ++c) {
      hn::Store(sum[i][c], d, sums + static_cast<std::size_t>((f + i) * columns + c0 + c) * lanes);
    }
  }
}

template <int kColumns, class D>
void accumulate_columns(D d, const ProductTable& product, int features, int rows, const float* t,
                        const float* u, int columns, int c0, float* sums) {
  int f = 0;
  for (; f + kBlock <= features; f += kBlock) {
    accumulate_block<kBlock, kColumns>(d, product, f, rows, t, u, columns, c0, sums);
  }
  for (; f < features; ++f) {
    accumulate_block<1, kColumns>(d, product, f, rows, t, u, columns, c0, sums);
  }
}

// state[f][c][h] += sums[f][c][lanes], in double.
template <class D>
void add_to_state(D d, const float* sums, std::int64_t count, int heads, double* state) {
  const hn::Repartition<double, D> dd;
  const hn::Rebind<float, decltype(dd)> df;
  const std::size_t lanes = hn::Lanes(d), step = hn::Lanes(dd);
  for (std::int64_t i = 0; i < count; ++i) {
    for (std::size_t lane = 0; lane < lanes; lane += step) {
      double* out = state + i * heads + static_cast<std::int64_t>(lane);
      const auto part =
          hn::PromoteTo(dd, hn::Load(df, sums + static_cast<std::size_t>(i) * lanes + lane));
      hn::StoreU(hn::Add(hn::LoadU(dd, out), part), dd, out);
    }
  }
}

template <class D>
void accumulate_lanes(D d, Scratch& scratch, const AttentionShape& shape, int n, const float* z,
                      std::int64_t z_stride, const float* u, std::int64_t u_stride, bool unit,
                      double* state) {
  const ProductTable& product = product_table(shape.order);
  const auto lanes = static_cast<int>(hn::Lanes(d));
  const int columns = shape.columns(), features = shape.features, heads = shape.heads;
  const std::size_t table_size =
      static_cast<std::size_t>(kTableRows * product.half_features * lanes);
  const std::size_t u_size = static_cast<std::size_t>(kTableRows * columns * lanes);
  const std::size_t sums_size = static_cast<std::size_t>(features * columns * lanes);
  float* t = scratch.floats(table_size + u_size + sums_size);
  float* group_u = t + table_size;
  float* sums = group_u + u_size;
  for (int h = 0; h < heads; h += lanes) {
    for (int run = 0; run < n; run += kRunRows) {
      std::fill_n(sums, sums_size, 0.0f);
      const int run_end = std::min(n, run + kRunRows);
      for (int start = run; start < run_end; start += kTableRows) {
        const int rows = std::min(kTableRows, run_end - start);
        fill_table(d, product, rows, z + start * z_stride + h, z_stride, heads, t);
        gather_columns(d, rows, u + start * u_stride + h, u_stride, heads, columns, unit, group_u);
        for (int c = 0; c < columns;) {
          const int chunk = next_chunk(columns - c);
          switch (chunk) {
            case 9:
              accumulate_columns<9>(d, product, features, rows, t, group_u, columns, c, sums);
              break;
            case 8:
              accumulate_columns<8>(d, product, features, rows, t, group_u, columns, c, sums);
              break;
            case 4:
              accumulate_columns<4>(d, product, features, rows, t, group_u, columns, c, sums);
              break;
            case 2:
              accumulate_columns<2>(d, product, features, rows, t, group_u, columns, c, sums);
              break;
            default:
              accumulate_columns<1>(d, product, features, rows, t, group_u, columns, c, sums);
              break;
          }
          c += chunk;
        }
      }
      add_to_state(d, sums, static_cast<std::int64_t>(features) * columns, heads, state + h);
    }
  }
}

// out[row][c] = sum_f m_f state[f][c] for kRows rows and kColumns columns.
template <int kRows, int kColumns, class D>
HWY_INLINE void apply_block(D d, const ProductTable& product, int features, const float* t,
                            const float* state, int state_columns, int heads, float* out,
                            std::int64_t out_stride) {
  using V = hn::Vec<D>;
  const std::size_t lanes = hn::Lanes(d);
  const std::size_t row_size = static_cast<std::size_t>(product.half_features) * lanes;
  V sum[kRows][kColumns];
  for (int r = 0; r < kRows; ++r) {
    for (int c = 0; c < kColumns; ++c) sum[r][c] = hn::Zero(d);
  }
  for (int f = 0; f < features; ++f) {
    const float* left = t + static_cast<std::size_t>(product.left[f]) * lanes;
    const float* right = t + static_cast<std::size_t>(product.right[f]) * lanes;
    V m[kRows];
    for (int r = 0; r < kRows; ++r) {
      const std::size_t at = static_cast<std::size_t>(r) * row_size;
      m[r] = hn::Mul(hn::Load(d, left + at), hn::Load(d, right + at));
    }
    const float* s = state + static_cast<std::int64_t>(f) * state_columns * heads;
    for (int c = 0; c < kColumns; ++c) {
      const V value = in_register(hn::LoadU(d, s + c * heads));
      for (int r = 0; r < kRows; ++r) sum[r][c] = hn::MulAdd(m[r], value, sum[r][c]);
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int c = 0; c < kColumns; ++c) hn::StoreU(sum[r][c], d, out + r * out_stride + c * heads);
  }
}

template <int kColumns, class D>
void apply_rows(D d, const ProductTable& product, int features, int rows, const float* t,
                const float* state, int state_columns, int heads, float* out,
                std::int64_t out_stride) {
  const std::size_t row_size = static_cast<std::size_t>(product.half_features) * hn::Lanes(d);
  int r = 0;
  for (; r + kBlock <= rows; r += kBlock) {
    apply_block<kBlock, kColumns>(d, product, features, t + static_cast<std::size_t>(r) * row_size,
                                  state, state_columns, heads, out + r * out_stride, out_stride);
  }
  for (; r < rows; ++r) {
    apply_block<1, kColumns>(d, product, features, t + static_cast<std::size_t>(r) * row_size,
                             state, state_columns, heads, out + r * out_stride, out_stride);
  }
}

template <class D>
void apply_lanes(D d, Scratch& scratch, const AttentionShape& shape, int n, const float* z,
                 std::int64_t z_stride, const float* state, int columns, float* out,
                 std::int64_t out_stride) {
  const ProductTable& product = product_table(shape.order);
  const auto lanes = static_cast<int>(hn::Lanes(d));
  const int features = shape.features, heads = shape.heads, all = shape.columns();
  float* t =
      scratch.floats(static_cast<std::size_t>(kQueryTableRows * product.half_features * lanes));
  for (int h = 0; h < heads; h += lanes) {
    for (int start = 0; start < n; start += kQueryTableRows) {
      const int rows = std::min(kQueryTableRows, n - start);
      fill_table(d, product, rows, z + start * z_stride + h, z_stride, heads, t);
      for (int c = 0; c < columns;) {
        const int chunk = next_chunk(columns - c);
        const float* s = state + c * heads + h;
        float* o = out + start * out_stride + c * heads + h;
        switch (chunk) {
          case 9:
            apply_rows<9>(d, product, features, rows, t, s, all, heads, o, out_stride);
            break;
          case 8:
            apply_rows<8>(d, product, features, rows, t, s, all, heads, o, out_stride);
            break;
          case 4:
            apply_rows<4>(d, product, features, rows, t, s, all, heads, o, out_stride);
            break;
          case 2:
            apply_rows<2>(d, product, features, rows, t, s, all, heads, o, out_stride);
            break;
          default:
            apply_rows<1>(d, product, features, rows, t, s, all, heads, o, out_stride);
            break;
        }
        c += chunk;
      }
    }
  }
}

void accumulate(Scratch& scratch, const AttentionShape& shape, int n, const float* z,
                std::int64_t z_stride, const float* u, std::int64_t u_stride, bool unit,
                double* state) {
  M5_BY_LANES(shape.heads, accumulate_lanes, scratch, shape, n, z, z_stride, u, u_stride, unit,
              state);
}
void apply(Scratch& scratch, const AttentionShape& shape, int n, const float* z,
           std::int64_t z_stride, const float* state, int columns, float* out,
           std::int64_t out_stride) {
  M5_BY_LANES(shape.heads, apply_lanes, scratch, shape, n, z, z_stride, state, columns, out,
              out_stride);
}
}  // namespace HWY_NAMESPACE
}  // namespace m5::kernels::simd
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace m5::kernels::simd {

HWY_EXPORT(accumulate);
HWY_EXPORT(apply);

void accumulate(Scratch& scratch, const AttentionShape& shape, int n, const float* z,
                std::int64_t z_stride, const float* u, std::int64_t u_stride, bool unit,
                double* state) {
  HWY_DYNAMIC_DISPATCH(accumulate)(scratch, shape, n, z, z_stride, u, u_stride, unit, state);
}
void apply(Scratch& scratch, const AttentionShape& shape, int n, const float* z,
           std::int64_t z_stride, const float* state, int columns, float* out,
           std::int64_t out_stride) {
  HWY_DYNAMIC_DISPATCH(apply)(scratch, shape, n, z, z_stride, state, columns, out, out_stride);
}
}  // namespace m5::kernels::simd
#endif
