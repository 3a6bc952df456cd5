// RMS norms and their gradient. Both are bound by memory: a lane has 8 neighbouring columns (16
// bytes of bf16) of kRows rows in flight.
#include <algorithm>

#include "kernels/cuda/formulas.hpp"
#include "kernels/cuda/mma.hpp"
#include "kernels/cuda/rows.hpp"

namespace m5::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarp;
constexpr int kEight = 8;

M5_DEVICE int lane() { return static_cast<int>(threadIdx.x) % kWarp; }
M5_DEVICE int warp() { return static_cast<int>(threadIdx.x) / kWarp; }

template <class E>
struct Columns;
template <>
struct alignas(16) Columns<float> {
  float v[kEight];
  M5_DEVICE float operator[](int i) const { return v[i]; }
};
template <>
struct Columns<bf16> : Eight {  // in pairs: 16-bit registers would be cut and joined
  M5_DEVICE float operator[](int i) const {
    return i % 2 ? second_of(pair[i / 2]) : first_of(pair[i / 2]);
  }
};
M5_DEVICE void store_columns(float* to, const float (&x)[kEight]) {
  store4(to, {x[0], x[1], x[2], x[3]});
  store4(to + 4, {x[4], x[5], x[6], x[7]});
}
M5_DEVICE void store_columns(bf16* to, const float (&x)[kEight]) {
  store8(to, {pack(x[0], x[1]), pack(x[2], x[3]), pack(x[4], x[5]), pack(x[6], x[7])});
}
template <class E>
M5_DEVICE Columns<E> load8(const E* p) {
  return *reinterpret_cast<const Columns<E>*>(p);
}

// kLanes lanes a row, each with kLoads times 8 columns.
template <int kLanes>
M5_DEVICE float row_sum(float x) {
#pragma unroll
  for (int lanes = kLanes / 2; lanes > 0; lanes /= 2) x += __shfl_xor_sync(0xffffffffu, x, lanes);
  return x;
}

template <class E, int kLanes, int kLoads, int kRows>
M5_KERNEL M5_BOUNDS(kThreads, 4) norm_kernel(std::int64_t n, float epsilon, const E* x,
                                             const float* gain, E* y, float* inverse) {
  constexpr int kDim = kLanes * kEight * kLoads, kStep = kWarp / kLanes;
  const int column = lane() % kLanes * kEight;
  const std::int64_t first =
      (std::int64_t{blockIdx.x} * kWarps + warp()) * (kStep * kRows) + lane() / kLanes;
  Columns<E> rows[kRows][kLoads];
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    const std::int64_t row = first + r * kStep;
#pragma unroll
    for (int l = 0; l < kLoads; ++l) {
      if (row < n) rows[r][l] = load8(x + row * kDim + l * kLanes * kEight + column);
    }
  }
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    const std::int64_t row = first + r * kStep;
    float square = 0;
    if (row < n) {
#pragma unroll
      for (int l = 0; l < kLoads; ++l) {
#pragma unroll
        for (int i = 0; i < kEight; ++i) {
          const float v = rows[r][l][i];
          square = fmaf(v, v, square);
        }
      }
    }
    const float root = fast_inverse_root(row_sum<kLanes>(square), kDim, epsilon);
    if (row >= n) continue;
    if (inverse && column == 0) inverse[row] = root;
    if (!y) continue;
#pragma unroll
    for (int l = 0; l < kLoads; ++l) {
      const int at = l * kLanes * kEight + column;
      float g[kEight];
#pragma unroll
      for (int i = 0; i < kEight; i += 4) {
        float four[4];
        load4(gain + at + i, four);
#pragma unroll
        for (int k = 0; k < 4; ++k) g[i + k] = four[k];
      }
      float v[kEight];
#pragma unroll
      for (int i = 0; i < kEight; ++i) v[i] = rows[r][l][i] * root * g[i];
      store_columns(y + row * kDim + at, v);
    }
  }
}

// A block has the rows of a part; the sums over rows lie in registers, then in shared memory,
// [lane groups][kinds][dim].
template <class E, int kLanes, int kLoads, bool kBoth>
M5_KERNEL M5_BOUNDS(kThreads, kLoads == 1 ? 2 : 1)
    norm_backward_kernel(std::int64_t n, float epsilon, const E* x, const float* gain, const E* dh,
                         const E* dx_in, E* dx_out, NormSums sums) {
  constexpr int kDim = kLanes * kEight * kLoads, kGroups = kThreads / kLanes;
  constexpr int kKinds = kBoth ? 3 : 1;
  static_assert(kSumRows / kGroups <= kChainRows, "a chain of fp32 sums would be longer");
  const int column = lane() % kLanes * kEight, group = static_cast<int>(threadIdx.x) / kLanes;
  const std::int64_t first = std::int64_t{blockIdx.x} * kSumRows;
  float g[kLoads][kEight], sum[kKinds][kLoads][kEight] = {};
#pragma unroll
  for (int l = 0; l < kLoads; ++l) {
#pragma unroll
    for (int i = 0; i < kEight; ++i) g[l][i] = gain[l * kLanes * kEight + column + i];
  }
  struct Row {
    Columns<E> x[kLoads], h[kLoads], d[kLoads];
  };
  const auto load = [&](std::int64_t row, Row& to) {
#pragma unroll
    for (int l = 0; l < kLoads; ++l) {
      const std::int64_t at = row * kDim + l * kLanes * kEight + column;
      to.x[l] = load8(x + at);
      to.h[l] = load8(dh + at);
      to.d[l] = {};
      if (dx_in) to.d[l] = load8(dx_in + at);
    }
  };
  Row next;
  if (first + group < n) load(first + group, next);
  // All lanes of a warp take part in its sums, also those behind the last row.
  for (int i = 0; i < kSumRows / kGroups; ++i) {
    const std::int64_t row = first + group + std::int64_t{i} * kGroups;
    if (first + std::int64_t{i} * kGroups >= n) break;
    const bool valid = row < n;
    const Row now = next;
    if (i + 1 < kSumRows / kGroups && row + kGroups < n) load(row + kGroups, next);
    float square = 0, dot = 0;
    if (valid) {
#pragma unroll
      for (int l = 0; l < kLoads; ++l) {
#pragma unroll
        for (int k = 0; k < kEight; ++k) {
          const float v = now.x[l][k];
          square = fmaf(v, v, square);
          dot = fmaf(g[l][k] * now.h[l][k], v, dot);
        }
      }
    }
    square = row_sum<kLanes>(square);
    dot = row_sum<kLanes>(dot);
    if (!valid) continue;
    const float root = fast_inverse_root(square, kDim, epsilon);
    const float factor = root * root * root * dot / static_cast<float>(kDim);
#pragma unroll
    for (int l = 0; l < kLoads; ++l) {
      float out[kEight];
#pragma unroll
      for (int k = 0; k < kEight; ++k) {
        const float v = now.x[l][k], h = now.h[l][k];
        float d = now.d[l][k];
        sum[0][l][k] = fmaf(h * v, root, sum[0][l][k]);
        if constexpr (kBoth) sum[1][l][k] += d;
        d += root * g[l][k] * h - v * factor;
        if constexpr (kBoth) sum[2][l][k] += d;
        out[k] = d;
      }
      store_columns(dx_out + row * kDim + l * kLanes * kEight + column, out);
    }
  }
  float* shared = shared_memory<float>();  // one kind at a time
  for (int kind = 0; kind < kKinds; ++kind) {
    __syncthreads();
#pragma unroll
    for (int l = 0; l < kLoads; ++l) {
#pragma unroll
      for (int k = 0; k < kEight; ++k) {
        float v = sum[0][l][k];
        if constexpr (kBoth) v = kind == 0 ? v : kind == 1 ? sum[1][l][k] : sum[2][l][k];
        shared[group * kDim + l * kLanes * kEight + column + k] = v;
      }
    }
    __syncthreads();
    float* to = kind == 0 ? sums.gain : kind == 1 ? sums.before : sums.after;
    for (int c = static_cast<int>(threadIdx.x); c < kDim; c += kThreads) {
      float total = 0;
      for (int other = 0; other < kGroups; ++other) total += shared[other * kDim + c];
      to[std::int64_t{blockIdx.x} * kDim + c] = total;
    }
  }
}

// --- any other number of columns: a warp a row, 4 columns a lane at a time

template <class E>
M5_KERNEL M5_BOUNDS(kThreads, 4) any_norm_kernel(std::int64_t n, int dim, float epsilon, const E* x,
                                                 const float* gain, E* y, float* inverse) {
  const std::int64_t row = std::int64_t{blockIdx.x} * kWarps + warp();
  if (row >= n) return;
  x += row * dim;
  float square = 0;
  for (int c = lane() * 4; c < dim; c += kWarp * 4) {
    float v[4];
    load4(x + c, v);
#pragma unroll
    for (int i = 0; i < 4; ++i) square = fmaf(v[i], v[i], square);
  }
  const float root = fast_inverse_root(warp_sum(square), dim, epsilon);
  if (inverse && lane() == 0) inverse[row] = root;
  if (!y) return;
  y += row * dim;
  for (int c = lane() * 4; c < dim; c += kWarp * 4) {
    float v[4], g[4];
    load4(x + c, v);
    load4(gain + c, g);
#pragma unroll
    for (int i = 0; i < 4; ++i) v[i] = v[i] * root * g[i];
    store4(y + c, v);
  }
}

// The sums over rows lie in shared memory, [warps][kinds][dim]: a lane adds to its own columns.
// Where rows are so wide that there are few warps, the part goes by stretches of kChainRows rows a
// warp, whose sums are added in order.
template <class E>
M5_KERNEL any_norm_backward_kernel(std::int64_t n, int dim, float epsilon, const E* x,
                                   const float* gain, const E* dh, const E* dx_in, E* dx_out,
                                   NormSums sums) {
  float* shared = shared_memory<float>();
  const int warps = static_cast<int>(blockDim.x) / kWarp;
  const int kinds = sums.before ? 3 : 1;
  float* mine = shared + warp() * kinds * dim;
  const std::int64_t first = std::int64_t{blockIdx.x} * kSumRows;
  const std::int64_t end = first + kSumRows < n ? first + kSumRows : n;
  for (std::int64_t begin = first; begin < end; begin += warps * kChainRows) {
    for (int c = lane(); c < kinds * dim; c += kWarp) mine[c] = 0;
    __syncwarp();
    for (int i = 0; i < kChainRows; ++i) {
      const std::int64_t row = begin + warp() + std::int64_t{i} * warps;
      if (row >= end) break;
      const E* xr = x + row * dim;
      const E* hr = dh + row * dim;
      float square = 0, dot = 0;
      for (int c = lane() * 4; c < dim; c += kWarp * 4) {
        float v[4], g[4], h[4];
        load4(xr + c, v);
        load4(gain + c, g);
        load4(hr + c, h);
#pragma unroll
        for (int k = 0; k < 4; ++k) {
          square = fmaf(v[k], v[k], square);
          dot = fmaf(g[k] * h[k], v[k], dot);
        }
      }
      square = warp_sum(square);
      dot = warp_sum(dot);
      const float root = fast_inverse_root(square, dim, epsilon);
      const float factor = root * root * root * dot / static_cast<float>(dim);
      for (int c = lane() * 4; c < dim; c += kWarp * 4) {
        float v[4], g[4], h[4], d[4] = {};
        load4(xr + c, v);
        load4(gain + c, g);
        load4(hr + c, h);
        if (dx_in) load4(dx_in + row * dim + c, d);
#pragma unroll
        for (int k = 0; k < 4; ++k) {
          mine[c + k] += h[k] * v[k] * root;
          if (kinds == 3) mine[dim + c + k] += d[k];
          d[k] += root * g[k] * h[k] - v[k] * factor;
          if (kinds == 3) mine[2 * dim + c + k] += d[k];
        }
        store4(dx_out + row * dim + c, d);
      }
    }
    __syncthreads();
    for (int c = static_cast<int>(threadIdx.x); c < kinds * dim;
         c += static_cast<int>(blockDim.x)) {
      float* to = c < dim ? sums.gain : c < 2 * dim ? sums.before : sums.after;
      to += std::int64_t{blockIdx.x} * dim + c % dim;
      float total = begin == first ? 0.0f : *to;
      for (int w = 0; w < warps; ++w) total += shared[w * kinds * dim + c];
      *to = total;
    }
    __syncthreads();  // before the next stretch clears them
  }
}

// launch(lanes, loads) of a width that has kernels of its own; false: it has none.
template <class Launch>
bool by_width(int dim, Launch launch) {
  using std::integral_constant;
  switch (dim) {
    case 64:
      launch(integral_constant<int, 8>(), integral_constant<int, 1>());
      return true;
    case 128:
      launch(integral_constant<int, 16>(), integral_constant<int, 1>());
      return true;
    case 256:
      launch(integral_constant<int, 32>(), integral_constant<int, 1>());
      return true;
    case 512:
      launch(integral_constant<int, 32>(), integral_constant<int, 2>());
      return true;
    default:
      return false;
  }
}

}  // namespace

template <class E>
void norm(Device& device, std::int64_t n, int dim, float epsilon, const E* x, const float* gain,
          E* y, float* inverse) {
  const bool launched = by_width(dim, [&](auto lanes, auto loads) {
    constexpr int kLanes = decltype(lanes)::value, kLoads = decltype(loads)::value;
    constexpr int kRows = 4 / kLoads;
    const std::int64_t rows = kWarps * (kWarp / kLanes) * kRows;
    device.launch("norm", norm_kernel<E, kLanes, kLoads, kRows>,
                  static_cast<unsigned>(ceil_div(n, rows)), kThreads, 0, n, epsilon, x, gain, y,
                  inverse);
  });
  if (launched) return;
  device.launch("norm", any_norm_kernel<E>, static_cast<unsigned>(ceil_div(n, kWarps)), kThreads, 0,
                n, dim, epsilon, x, gain, y, inverse);
}

template <class E>
void norm_backward(Device& device, std::int64_t n, int dim, float epsilon, const E* x,
                   const float* gain, const E* dh, const E* dx_in, E* dx_out,
                   const NormSums& sums) {
  const auto parts = static_cast<unsigned>(sum_parts(n));
  const bool launched = by_width(dim, [&](auto lanes, auto loads) {
    constexpr int kLanes = decltype(lanes)::value, kLoads = decltype(loads)::value;
    const std::size_t shared = kThreads * kLoads * kEight * sizeof(float);
    if (sums.before) {
      device.launch("norm_backward", norm_backward_kernel<E, kLanes, kLoads, true>, parts, kThreads,
                    shared, n, epsilon, x, gain, dh, dx_in, dx_out, sums);
    } else {
      device.launch("norm_backward", norm_backward_kernel<E, kLanes, kLoads, false>, parts,
                    kThreads, shared, n, epsilon, x, gain, dh, dx_in, dx_out, sums);
    }
  });
  if (launched) return;
  const std::size_t row =
      static_cast<std::size_t>(sums.before ? 3 : 1) * static_cast<std::size_t>(dim) * sizeof(float);
  const int warps = static_cast<int>(std::clamp<std::size_t>(48 * 1024 / row, 1, kWarps));
  device.launch("norm_backward", any_norm_backward_kernel<E>, parts, warps * kWarp,
                static_cast<std::size_t>(warps) * row, n, dim, epsilon, x, gain, dh, dx_in, dx_out,
                sums);
}

#define M5_INSTANTIATE(E)                                                                       \
  template void norm<E>(Device&, std::int64_t, int, float, const E*, const float*, E*, float*); \
  template void norm_backward<E>(Device&, std::int64_t, int, float, const E*, const float*,     \
                                 const E*, const E*, E*, const NormSums&);
M5_INSTANTIATE(float)
M5_INSTANTIATE(bf16)
#undef M5_INSTANTIATE

}  // namespace m5::kernels::cuda
