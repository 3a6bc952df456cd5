// What a row reads of the states, and the gradients of both sides: a thread has one head of some
// rows, and walks the tree of features with the state slice in shared memory.
#include "kernels/cuda/attention.hpp"
#include "kernels/cuda/attention_mma.hpp"
#include "kernels/cuda/features.hpp"

namespace m5::kernels::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kRowLanes = kThreads / kHeads;

// --- walks over the subtree of feature f, of degree D, last variable V; m[r] its monomials;
// s: the head's column of the slice

// u[r][c] += m_f s[f][c]
template <int P, int D, int V, int f, int R>
M5_DEVICE void query_walk(const float* s, const float (&z)[R][4], const float (&m)[R],
                          float (&u)[R][kColumns]);

template <int P, int D, int V, int f, int W, int R>
M5_DEVICE void query_children(const float* s, const float (&z)[R][4], const float (&m)[R],
                              float (&u)[R][kColumns]) {
  if constexpr (W < 4) {
    float child[R];
#pragma unroll
    for (int r = 0; r < R; ++r) child[r] = D == 0 ? z[r][W] : m[r] * z[r][W];
    query_walk<P, D + 1, W, f + child_offset(P, D, V, W), R>(s, z, child, u);
    query_children<P, D, V, f, W + 1, R>(s, z, m, u);
  }
}

template <int P, int D, int V, int f, int R>
M5_DEVICE void query_walk(const float* s, const float (&z)[R][4], const float (&m)[R],
                          float (&u)[R][kColumns]) {
#pragma unroll
  for (int c = 0; c < kColumns; ++c) {
    const float state = s[(f * kColumns + c) * kHeads];
#pragma unroll
    for (int r = 0; r < R; ++r) u[r][c] = fmaf(m[r], state, u[r][c]);
  }
  if constexpr (D < P) query_children<P, D, V, f, V, R>(s, z, m, u);
}

// slope[r] = d/d m_f of sum over the subtree of m [g, 1].s; dz[r] +=. with kValueGradient also
// dv[r][c] += m_f s[f][c] of the value columns.
template <int P, int D, int V, int f, int R, bool kValueGradient>
M5_DEVICE void slope_walk(const float* s, const float (&z)[R][4], const float (&m)[R],
                          const float (&g)[R][kColumns], float (&dz)[R][4],
                          float (&dv)[R][kValues], float (&slope)[R]);

template <int P, int D, int V, int f, int W, int R, bool kValueGradient>
M5_DEVICE void slope_children(const float* s, const float (&z)[R][4], const float (&m)[R],
                              const float (&g)[R][kColumns], float (&dz)[R][4],
                              float (&dv)[R][kValues], float (&slope)[R]) {
  if constexpr (W < 4) {
    float child[R], child_slope[R];
#pragma unroll
    for (int r = 0; r < R; ++r) child[r] = D == 0 ? z[r][W] : m[r] * z[r][W];
    slope_walk<P, D + 1, W, f + child_offset(P, D, V, W), R, kValueGradient>(s, z, child, g, dz, dv,
                                                                            child_slope);
#pragma unroll
    for (int r = 0; r < R; ++r) {
      dz[r][W] = D == 0 ? dz[r][W] + child_slope[r] : fmaf(child_slope[r], m[r], dz[r][W]);
      slope[r] = fmaf(child_slope[r], z[r][W], slope[r]);
    }
    slope_children<P, D, V, f, W + 1, R, kValueGradient>(s, z, m, g, dz, dv, slope);
  }
}

template <int P, int D, int V, int f, int R, bool kValueGradient>
M5_DEVICE void slope_walk(const float* s, const float (&z)[R][4], const float (&m)[R],
                          const float (&g)[R][kColumns], float (&dz)[R][4],
                          float (&dv)[R][kValues], float (&slope)[R]) {
#pragma unroll
  for (int r = 0; r < R; ++r) slope[r] = 0;
#pragma unroll
  for (int c = 0; c < kColumns; ++c) {
    const float state = s[(f * kColumns + c) * kHeads];
#pragma unroll
    for (int r = 0; r < R; ++r) {
      slope[r] = fmaf(state, g[r][c], slope[r]);
      if constexpr (kValueGradient) {
        if (c < kValues) dv[r][c] = fmaf(m[r], state, dv[r][c]);
      }
    }
  }
  if constexpr (D < P) slope_children<P, D, V, f, V, R, kValueGradient>(s, z, m, g, dz, dv, slope);
}

// --- rows

// The rows of this thread in the tile that begins at `tile`, of a piece: kRowLanes apart.
template <int R>
struct Rows {
  std::int64_t at[R];  // of the chunk; rows behind the piece's end read its last one
  bool valid[R];
  M5_DEVICE Rows(const Piece& piece, std::int64_t first_row, int tile) {
    const int lane = static_cast<int>(threadIdx.x) / kHeads;
#pragma unroll
    for (int r = 0; r < R; ++r) {
      const int row = tile + r * kRowLanes + lane;
      valid[r] = row < piece.rows;
      at[r] = piece.row - first_row + (valid[r] ? row : piece.rows - 1);
    }
  }
};

// z bounded, and its factor.
template <class E, int R>
M5_DEVICE void load_bounded(const E* from, std::int64_t stride, std::int64_t heads, float bound,
                            const Rows<R>& rows, float (&z)[R][4], float (&scale)[R]) {
#pragma unroll
  for (int r = 0; r < R; ++r) {
    float square = 0;
#pragma unroll
    for (int a = 0; a < 4; ++a) {
      z[r][a] = to_float(from[rows.at[r] * stride + a * heads]);
      square = fmaf(z[r][a], z[r][a], square);
    }
    scale[r] = sqrtf(bound / (bound + square));
#pragma unroll
    for (int a = 0; a < 4; ++a) z[r][a] *= scale[r];
  }
}

// dz = s (dz' - z' (z'.dz') / R), stored.
template <class E, int R>
M5_DEVICE void store_bound_gradient(const float (&z)[R][4], const float (&dz)[R][4],
                                    const float (&scale)[R], float bound, const Rows<R>& rows,
                                    std::int64_t stride, std::int64_t heads, E* to) {
#pragma unroll
  for (int r = 0; r < R; ++r) {
    float dot = 0;
#pragma unroll
    for (int a = 0; a < 4; ++a) dot = fmaf(z[r][a], dz[r][a], dot);
    dot /= bound;
#pragma unroll
    for (int a = 0; a < 4; ++a) {
      if (rows.valid[r]) {
        to[rows.at[r] * stride + a * heads] = from_float<E>(scale[r] * (dz[r][a] - z[r][a] * dot));
      }
    }
  }
}

struct Sizes {
  std::int64_t heads, state;
  int value_dim, batches;
  float bound;
};

// The slice of this block's heads and of a batch of columns, from a context's state.
template <int P>
M5_DEVICE void load_slice(const Sizes& size, const float* states, int context, int batch,
                          float* slice) {
  constexpr int kSlice = kFeatures<P> * kColumns * kHeads;
  const float* from =
      states + context * size.state + (std::int64_t{blockIdx.y} * size.batches + batch) * kSlice;
  __syncthreads();  // nobody reads the one before
  for (int e = static_cast<int>(threadIdx.x) * 4; e < kSlice; e += kThreads * 4) {
    *reinterpret_cast<Four<float>*>(slice + e) = *reinterpret_cast<const Four<float>*>(from + e);
  }
  __syncthreads();
}

// --- kernels. grid: pieces, blocks of 8 heads.

template <int P, class E>
M5_KERNEL M5_BOUNDS(kThreads, 4)
    query_kernel(const Piece* pieces, std::int64_t first_row, Sizes size, const E* q,
                 const float* states, E* o, float* weight_sum) {
  constexpr int R = P <= 4 ? 4 : 2;
  float* slice = shared_memory<float>();
  const Piece& piece = pieces[blockIdx.x];
  const int head_lane = static_cast<int>(threadIdx.x) % kHeads;
  const std::int64_t H = size.heads, head = std::int64_t{blockIdx.y} * kHeads + head_lane;
  for (int tile = 0; tile < piece.rows; tile += R * kRowLanes) {
    const Rows<R> rows(piece, first_row, tile);
    float z[R][4], scale[R];
    load_bounded<E, R>(q + head, 4 * H, H, size.bound, rows, z, scale);
    for (int batch = 0; batch < size.batches; ++batch) {
      if (size.batches > 1 || tile == 0) load_slice<P>(size, states, piece.context, batch, slice);
      float u[R][kColumns] = {}, one[R];
#pragma unroll
      for (int r = 0; r < R; ++r) one[r] = 1;
      query_walk<P, 0, 0, 0, R>(slice + head_lane, z, one, u);
#pragma unroll
      for (int r = 0; r < R; ++r) {
        if (!rows.valid[r]) continue;
#pragma unroll
        for (int c = 0; c < kValues; ++c) {
          const int column = batch * kValues + c;
          if (column < size.value_dim) {
            o[(rows.at[r] * size.value_dim + column) * H + head] =
                from_float<E>(u[r][c] / u[r][kValues]);
          }
        }
        if (weight_sum && batch == 0) weight_sum[rows.at[r] * H + head] = u[r][kValues];
      }
    }
  }
}

// du_c = g_c / n, du_dv = -(g.o) / n with n = weight_sum.
template <int P, class E>
M5_KERNEL M5_BOUNDS(kThreads, 3)
    query_backward_kernel(const Piece* pieces, std::int64_t first_row, Sizes size, const E* q,
                          const float* states, const E* o, const float* weight_sum, const E* d_o,
                          E* dq, E* du) {
  constexpr int R = P <= 4 ? 4 : 2;
  float* slice = shared_memory<float>();
  const Piece& piece = pieces[blockIdx.x];
  const int head_lane = static_cast<int>(threadIdx.x) % kHeads;
  const std::int64_t H = size.heads, head = std::int64_t{blockIdx.y} * kHeads + head_lane;
  const int V = size.value_dim;
  for (int tile = 0; tile < piece.rows; tile += R * kRowLanes) {
    const Rows<R> rows(piece, first_row, tile);
    float z[R][4], scale[R], dz[R][4] = {}, dot[R] = {}, inverse[R];
    load_bounded<E, R>(q + head, 4 * H, H, size.bound, rows, z, scale);
#pragma unroll
    for (int r = 0; r < R; ++r) {
      for (int c = 0; c < V; ++c) {
        const std::int64_t at = (rows.at[r] * V + c) * H + head;
        dot[r] = fmaf(to_float(d_o[at]), to_float(o[at]), dot[r]);
      }
      inverse[r] = 1 / weight_sum[rows.at[r] * H + head];
      dot[r] *= -inverse[r];
      if (rows.valid[r]) du[(rows.at[r] * (V + 1) + V) * H + head] = from_float<E>(dot[r]);
    }
    for (int batch = 0; batch < size.batches; ++batch) {
      if (size.batches > 1 || tile == 0) load_slice<P>(size, states, piece.context, batch, slice);
      float g[R][kColumns], one[R], slope[R], no_dv[R][kValues];
#pragma unroll
      for (int r = 0; r < R; ++r) {
        one[r] = 1;
#pragma unroll
        for (int c = 0; c < kValues; ++c) {
          const int column = batch * kValues + c;
          g[r][c] = 0;
          if (column < V) {
            g[r][c] = inverse[r] * to_float(d_o[(rows.at[r] * V + column) * H + head]);
            if (rows.valid[r]) {
              du[(rows.at[r] * (V + 1) + column) * H + head] = from_float<E>(g[r][c]);
            }
          }
        }
        g[r][kValues] = batch == 0 ? dot[r] : 0;
      }
      slope_walk<P, 0, 0, 0, R, false>(slice + head_lane, z, one, g, dz, no_dv, slope);
    }
    store_bound_gradient<E, R>(z, dz, scale, size.bound, rows, 4 * H, H, dq + head);
  }
}

template <int P, class E>
M5_KERNEL M5_BOUNDS(kThreads, 4)
    accumulate_backward_kernel(const Piece* pieces, std::int64_t first_row, Sizes size,
                               const E* kv, const float* d_states, E* d_kv) {
  constexpr int R = 2;
  float* slice = shared_memory<float>();
  const Piece& piece = pieces[blockIdx.x];
  const int head_lane = static_cast<int>(threadIdx.x) % kHeads;
  const std::int64_t H = size.heads, head = std::int64_t{blockIdx.y} * kHeads + head_lane;
  const int V = size.value_dim;
  const std::int64_t stride = (4 + V) * H;
  for (int tile = 0; tile < piece.rows; tile += R * kRowLanes) {
    const Rows<R> rows(piece, first_row, tile);
    float z[R][4], scale[R], dz[R][4] = {};
    load_bounded<E, R>(kv + head, stride, H, size.bound, rows, z, scale);
    for (int batch = 0; batch < size.batches; ++batch) {
      if (size.batches > 1 || tile == 0) load_slice<P>(size, d_states, piece.context, batch, slice);
      float v[R][kColumns], one[R], slope[R], dv[R][kValues] = {};
#pragma unroll
      for (int r = 0; r < R; ++r) {
        one[r] = 1;
#pragma unroll
        for (int c = 0; c < kValues; ++c) {
          const int column = batch * kValues + c;
          v[r][c] =
              column < V ? to_float(kv[rows.at[r] * stride + (4 + column) * H + head]) : 0.0f;
        }
        v[r][kValues] = 1;  // the state's gradient has this column in the first batch only
      }
      slope_walk<P, 0, 0, 0, R, true>(slice + head_lane, z, one, v, dz, dv, slope);
#pragma unroll
      for (int r = 0; r < R; ++r) {
#pragma unroll
        for (int c = 0; c < kValues; ++c) {
          const int column = batch * kValues + c;
          if (column < V && rows.valid[r]) {
            d_kv[rows.at[r] * stride + (4 + column) * H + head] = from_float<E>(dv[r][c]);
          }
        }
      }
    }
    store_bound_gradient<E, R>(z, dz, scale, size.bound, rows, stride, H, d_kv + head);
  }
}

template <class Launch>
void by_order(int order, Launch launch) {
  switch (order) {
    case 2:
      return launch(std::integral_constant<int, 2>());
    case 4:
      return launch(std::integral_constant<int, 4>());
    case 6:
      return launch(std::integral_constant<int, 6>());
    default:
      return launch(std::integral_constant<int, 8>());
  }
}

Sizes sizes(const AttentionSize& s) {
  return {s.heads, s.state(), s.value_dim, s.batches(), s.bound};
}

dim3 grid_of(const AttentionSize& size, const Pieces& pieces) {
  return dim3(static_cast<unsigned>(pieces.count), static_cast<unsigned>(size.heads / kHeads));
}

}  // namespace

template <class E>
void query(Device& device, const AttentionSize& size, const Pieces& p, const E* q,
           const float* scaled, E* o, float* weight_sum) {
  if constexpr (std::is_same_v<E, bf16>) {
    if (size.tensor_cores) return query_mma(device, size, p, q, scaled, o, weight_sum);
  }
  by_order(size.order, [&](auto order) {
    device.launch("query", query_kernel<decltype(order)::value, E>, grid_of(size, p), kThreads,
                  size.slice_bytes(), p.pieces, p.first_row, sizes(size), q, scaled, o, weight_sum);
  });
}

template <class E>
void query_backward(Device& device, const AttentionSize& size, const Pieces& p, const E* q,
                    const float* scaled, const E* o, const float* weight_sum, const E* d_o, E* dq,
                    E* du) {
  if constexpr (std::is_same_v<E, bf16>) {
    if (size.tensor_cores) {
      return query_backward_mma(device, size, p, q, scaled, o, weight_sum, d_o, dq, du);
    }
  }
  by_order(size.order, [&](auto order) {
    device.launch("query_backward", query_backward_kernel<decltype(order)::value, E>,
                  grid_of(size, p), kThreads, size.slice_bytes(), p.pieces, p.first_row,
                  sizes(size), q, scaled, o, weight_sum, d_o, dq, du);
  });
}

template <class E>
void accumulate_backward(Device& device, const AttentionSize& size, const Pieces& p,
                         const E* kv, const float* d_state, E* d_kv) {
  if constexpr (std::is_same_v<E, bf16>) {
    if (size.tensor_cores) return accumulate_backward_mma(device, size, p, kv, d_state, d_kv);
  }
  by_order(size.order, [&](auto order) {
    device.launch("accumulate_backward", accumulate_backward_kernel<decltype(order)::value, E>,
                  grid_of(size, p), kThreads, size.slice_bytes(), p.pieces, p.first_row,
                  sizes(size), kv, d_state, d_kv);
  });
}

#define M5_INSTANTIATE(E)                                                                       \
  template void query<E>(Device&, const AttentionSize&, const Pieces&, const E*, const float*,  \
                         E*, float*);                                                           \
  template void query_backward<E>(Device&, const AttentionSize&, const Pieces&, const E*,       \
                                  const float*, const E*, const float*, const E*, E*, E*);      \
  template void accumulate_backward<E>(Device&, const AttentionSize&, const Pieces&, const E*,  \
                                       const float*, E*);
M5_INSTANTIATE(float)
M5_INSTANTIATE(bf16)
#undef M5_INSTANTIATE

}  // namespace m5::kernels::cuda
