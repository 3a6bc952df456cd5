// Attention backward: from sums over monomials back to the vectors they are of.

#include "kernels/cpu/targets.hpp"

#include <algorithm>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/attention_backward.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/cpu/attention_tables.hpp"

HWY_BEFORE_NAMESPACE();
namespace m5::kernels::simd {
namespace HWY_NAMESPACE {

// dt += the gradient of sum_f m_f (state[f] . u) in the table entries, for kRows rows at once so
// that a load of the state serves all of them. kColumns: the columns, u then stays in registers; 0:
// any number.
template <int kRows, int kColumns, class D>
HWY_INLINE void pull_back_block(D d, const ProductTable& product, int features, const float* t,
                                const float* state, int heads, const float* u, int any_columns,
                                float* dt) {
  using V = hn::Vec<D>;
  const std::size_t lanes = hn::Lanes(d);
  const int columns = kColumns > 0 ? kColumns : any_columns;
  const std::size_t row_size = static_cast<std::size_t>(product.half_features) * lanes;
  const std::size_t u_size = static_cast<std::size_t>(columns) * lanes;
  const auto load_u = [&](int r, int c) {
    return hn::Load(d,
                    u + static_cast<std::size_t>(r) * u_size + static_cast<std::size_t>(c) * lanes);
  };
  V kept[kRows][kColumns > 0 ? kColumns : 1];
  if constexpr (kColumns > 0) {
    for (int r = 0; r < kRows; ++r) {
      for (int c = 0; c < kColumns; ++c) kept[r][c] = in_register(load_u(r, c));
    }
  }
  for (int f = 0; f < features; ++f) {
    V dm[kRows];
    for (int r = 0; r < kRows; ++r) dm[r] = hn::Zero(d);
    const float* s = state + static_cast<std::int64_t>(f) * columns * heads;
    for (int c = 0; c < columns; ++c) {
      const V value = in_register(hn::LoadU(d, s + c * heads));
      for (int r = 0; r < kRows; ++r) {
        if constexpr (kColumns > 0) {
          dm[r] = hn::MulAdd(value, kept[r][c], dm[r]);
        } else {
          dm[r] = hn::MulAdd(value, load_u(r, c), dm[r]);
        }
      }
    }
    const std::size_t left = static_cast<std::size_t>(product.left[f]) * lanes;
    const std::size_t right = static_cast<std::size_t>(product.right[f]) * lanes;
    for (int r = 0; r < kRows; ++r) {
      const std::size_t at = static_cast<std::size_t>(r) * row_size;
      const V a = hn::Load(d, t + at + left), b = hn::Load(d, t + at + right);
      hn::Store(hn::MulAdd(dm[r], b, hn::Load(d, dt + at + left)), d, dt + at + left);
      hn::Store(hn::MulAdd(dm[r], a, hn::Load(d, dt + at + right)), d, dt + at + right);
    }
  }
}

template <int kRows, int kColumns, class D>
int pull_back_rows(D d, const ProductTable& product, int features, int rows, const float* t,
                   const float* state, int heads, const float* u, int columns, float* dt, int r) {
  const std::size_t row_size = static_cast<std::size_t>(product.half_features) * hn::Lanes(d);
  const std::size_t u_size = static_cast<std::size_t>(columns) * hn::Lanes(d);
  for (; r + kRows <= rows; r += kRows) {
    const auto i = static_cast<std::size_t>(r);
    pull_back_block<kRows, kColumns>(d, product, features, t + i * row_size, state, heads,
                                     u + i * u_size, columns, dt + i * row_size);
  }
  return r;
}

template <class D>
void pull_back_lanes(D d, Scratch& scratch, const AttentionShape& shape, int n, const float* z,
                     std::int64_t z_stride, const float* state, const float* u,
                     std::int64_t u_stride, bool unit, float* dz, std::int64_t dz_stride) {
  const ProductTable& product = product_table(shape.order);
  const auto lanes = static_cast<int>(hn::Lanes(d));
  const int features = shape.features, heads = shape.heads, columns = shape.columns();
  const std::size_t row_size = static_cast<std::size_t>(product.half_features * lanes);
  const std::size_t u_row = static_cast<std::size_t>(columns * lanes);
  float* t = scratch.floats(kTableRows * (2 * row_size + u_row));
  float* dt = t + kTableRows * row_size;
  float* group_u = dt + kTableRows * row_size;
  constexpr int kRows = kBlock == 1 ? 2 : 4;
  const bool usual = columns == 9 && kBlock == 3;
  for (int h = 0; h < heads; h += lanes) {
    for (int start = 0; start < n; start += kTableRows) {
      const int rows = std::min(kTableRows, n - start);
      fill_table(d, product, rows, z + start * z_stride + h, z_stride, heads, t);
      gather_columns(d, rows, u + start * u_stride + h, u_stride, heads, columns, unit, group_u);
      std::fill_n(dt, static_cast<std::size_t>(rows) * row_size, 0.0f);
      int r = 0;
      if (usual) {
        r = pull_back_rows<kBlock, 9>(d, product, features, rows, t, state + h, heads, group_u,
                                      columns, dt, r);
      } else {
        r = pull_back_rows<kRows, 0>(d, product, features, rows, t, state + h, heads, group_u,
                                     columns, dt, r);
      }
      pull_back_rows<1, 0>(d, product, features, rows, t, state + h, heads, group_u, columns, dt,
                           r);
      // Down the table: t_f = t_parent z_variable.
      for (r = 0; r < rows; ++r) {
        const float* row_t = t + static_cast<std::size_t>(r) * row_size;
        float* row_dt = dt + static_cast<std::size_t>(r) * row_size;
        const float* row_z = z + (start + r) * z_stride + h;
        float* out = dz + (start + r) * dz_stride + h;
        auto g0 = hn::Zero(d), g1 = g0, g2 = g0, g3 = g0;
        for (int f = product.half_features - 1; f > 0; --f) {
          const std::size_t parent = static_cast<std::size_t>(product.parent[f] * lanes);
          const auto df = hn::Load(d, row_dt + f * lanes);
          const auto by_z = hn::Mul(df, hn::Load(d, row_t + parent));
          switch (product.variable[f]) {
            case 0:
              g0 = hn::Add(g0, by_z);
              break;
            case 1:
              g1 = hn::Add(g1, by_z);
              break;
            case 2:
              g2 = hn::Add(g2, by_z);
              break;
            default:
              g3 = hn::Add(g3, by_z);
              break;
          }
          const auto zv = hn::LoadU(d, row_z + product.variable[f] * heads);
          hn::Store(hn::MulAdd(df, zv, hn::Load(d, row_dt + parent)), d, row_dt + parent);
        }
        hn::StoreU(g0, d, out);
        hn::StoreU(g1, d, out + heads);
        hn::StoreU(g2, d, out + 2 * heads);
        hn::StoreU(g3, d, out + 3 * heads);
      }
    }
  }
}

void pull_back(Scratch& scratch, const AttentionShape& shape, int n, const float* z,
               std::int64_t z_stride, const float* state, const float* u, std::int64_t u_stride,
               bool unit, float* dz, std::int64_t dz_stride) {
  M5_BY_LANES(shape.heads, pull_back_lanes, scratch, shape, n, z, z_stride, state, u, u_stride,
              unit, dz, dz_stride);
}

}  // namespace HWY_NAMESPACE
}  // namespace m5::kernels::simd
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace m5::kernels::simd {

HWY_EXPORT(pull_back);

void pull_back(Scratch& scratch, const AttentionShape& shape, int n, const float* z,
               std::int64_t z_stride, const float* state, const float* u, std::int64_t u_stride,
               bool unit, float* dz, std::int64_t dz_stride) {
  HWY_DYNAMIC_DISPATCH(pull_back)
  (scratch, shape, n, z, z_stride, state, u, u_stride, unit, dz, dz_stride);
}

}  // namespace m5::kernels::simd
#endif
