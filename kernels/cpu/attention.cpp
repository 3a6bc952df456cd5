// Attention kernels: lanes = heads, so that no lane is idle and nothing is shuffled. Monomials come
// from a table of those of half the degree, one product each (simd.hpp, ProductTable).

#include "kernels/cpu/targets.hpp"

#include <algorithm>

#include "kernels/cpu/by_lanes.hpp"
#include "kernels/cpu/simd.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/attention.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace m5::kernels::simd {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Rows whose tables are made at once, 15 (p = 4) vectors a row: what measured best, in L1 or L2.
constexpr int kTableRows = 32, kQueryTableRows = 48;
// Accumulators: kBlock x 9 of the 32 registers where there are 32.
#if HWY_ARCH_X86 && HWY_TARGET > HWY_AVX3
constexpr int kBlock = 1;
#else
constexpr int kBlock = 3;
#endif

// GCC would rather load a vector again as the memory operand of each multiplication than keep it in
// a register, and the loads then limit the kernel.
template <class V>
HWY_INLINE V in_register(V v) {
#if HWY_ARCH_X86 && HWY_COMPILER_GCC_ACTUAL
  asm("" : "+v"(v.raw));
#endif
  return v;
}

// Highest chunk of columns first: 9 = the usual 8 values and the weight.
inline int next_chunk(int columns) {
  if (columns == 9 || (columns > 9 && columns % 8 == 1)) return 9;
  return columns >= 8 ? 8 : columns >= 4 ? 4 : columns >= 2 ? 2 : 1;
}

// t[row][entry][lanes] for rows of one head group.
template <class D>
void fill_table(D d, const ProductTable& product, int rows, const float* z, std::int64_t z_stride,
                int heads, float* t) {
  const std::size_t lanes = hn::Lanes(d);
  for (int r = 0; r < rows; ++r) {
    const float* row = z + r * z_stride;
    float* out = t + static_cast<std::size_t>(r * product.half_features) * lanes;
    hn::Store(hn::Set(d, 1.0f), d, out);
    for (int f = 1; f < product.half_features; ++f) {
      const auto parent = hn::Load(d, out + static_cast<std::size_t>(product.parent[f]) * lanes);
      const auto factor = hn::LoadU(d, row + product.variable[f] * heads);
      hn::Store(hn::Mul(parent, factor), d, out + static_cast<std::size_t>(f) * lanes);
    }
  }
}

// out[row][columns][lanes] = columns of u of one head group, ones in the last if unit.
template <class D>
void gather_columns(D d, int rows, const float* u, std::int64_t u_stride, int heads, int columns,
                    bool unit, float* out) {
  const std::size_t lanes = hn::Lanes(d);
  for (int r = 0; r < rows; ++r) {
    for (int c = 0; c < columns; ++c, out += lanes) {
      const bool one = unit && c + 1 == columns;
      hn::Store(one ? hn::Set(d, 1.0f) : hn::LoadU(d, u + r * u_stride + c * heads), d, out);
    }
  }
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

HWY_EXPORT(accumulate);
HWY_EXPORT(apply);
HWY_EXPORT(pull_back);

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
void pull_back(Scratch& scratch, const AttentionShape& shape, int n, const float* z,
               std::int64_t z_stride, const float* state, const float* u, std::int64_t u_stride,
               bool unit, float* dz, std::int64_t dz_stride) {
  HWY_DYNAMIC_DISPATCH(pull_back)
  (scratch, shape, n, z, z_stride, state, u, u_stride, unit, dz, dz_stride);
}

}  // namespace m5::kernels::simd
#endif
