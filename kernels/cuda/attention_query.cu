// What a row reads of the states, and the gradients of both sides: a thread has one head of some
// rows, and goes over the features with the state slice in shared memory. On tensor cores:
// attention_query_mma.cu.
#include "kernels/cuda/attention.hpp"
#include "kernels/cuda/attention_mma.hpp"

namespace m5::kernels::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kRowLanes = kThreads / kHeads;

// --- sums over the features of a slice; s: the head's column of it

// u[r][c] += m_f s[f][c]
template <int R>
M5_DEVICE void add_products(int order, const float* s, const float (&z)[R][4],
                            float (&u)[R][kColumns]) {
  float m[4][R];  // z_0^e0, z_0^e0 z_1^e1, ...
  const auto begin = [&](int a) {
#pragma unroll
    for (int r = 0; r < R; ++r) m[a][r] = a == 0 ? 1.0f : m[a > 0 ? a - 1 : 0][r];
  };
  const auto next = [&](int a) {
#pragma unroll
    for (int r = 0; r < R; ++r) m[a][r] *= z[r][a];
  };
  begin(0);
  for (int p0 = order; p0 >= 0; --p0, next(0)) {
    begin(1);
    for (int p1 = p0; p1 >= 0; --p1, next(1)) {
      begin(2);
      for (int p2 = p1; p2 >= 0; --p2, next(2)) {
        begin(3);
        for (int p3 = p2; p3 >= 0; --p3, next(3)) {
#pragma unroll
          for (int c = 0; c < kColumns; ++c) {
            const float state = s[c * kHeads];
#pragma unroll
            for (int r = 0; r < R; ++r) u[r][c] = fmaf(m[3][r], state, u[r][c]);
          }
          s += kColumns * kHeads;
        }
      }
    }
  }
}

// A polynomial in the variables a, a + 1, ... by Horner's rule, and its slopes.
template <int R>
struct Horner {
  float value[R] = {}, slope[R][4] = {};
  // Times z_a, plus the polynomial `more` in the variables behind a.
  M5_DEVICE void step(int a, const float (&z)[R][4], const Horner& more) {
#pragma unroll
    for (int r = 0; r < R; ++r) {
      slope[r][a] = fmaf(slope[r][a], z[r][a], value[r]);
      value[r] = fmaf(value[r], z[r][a], more.value[r]);
#pragma unroll
      for (int b = 1; b < 4; ++b) {
        if (b > a) slope[r][b] = fmaf(slope[r][b], z[r][a], more.slope[r][b]);
      }
    }
  }
};

// dz[r] += the slopes of sum_f m_f(z) (s[f] . g[r]); from the last feature to the first.
template <int R>
M5_DEVICE void add_slopes(int order, int features, const float* s, const float (&z)[R][4],
                          const float (&g)[R][kColumns], float (&dz)[R][4]) {
  s += features * kColumns * kHeads;
  Horner<R> h0;
  for (int p0 = 0; p0 <= order; ++p0) {
    Horner<R> h1;
    for (int p1 = 0; p1 <= p0; ++p1) {
      Horner<R> h2;
      for (int p2 = 0; p2 <= p1; ++p2) {
        Horner<R> h3;
        for (int p3 = 0; p3 <= p2; ++p3) {
          s -= kColumns * kHeads;
          Horner<R> term;
#pragma unroll
          for (int c = 0; c < kColumns; ++c) {
            const float state = s[c * kHeads];
#pragma unroll
            for (int r = 0; r < R; ++r) term.value[r] = fmaf(state, g[r][c], term.value[r]);
          }
          h3.step(3, z, term);
        }
        h2.step(2, z, h3);
      }
      h1.step(1, z, h2);
    }
    h0.step(0, z, h1);
  }
#pragma unroll
  for (int r = 0; r < R; ++r) {
#pragma unroll
    for (int a = 0; a < 4; ++a) dz[r][a] += h0.slope[r][a];
  }
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
  int value_dim, batches, order, features;
  float bound;
};

// The slice of this block's heads and of a batch of columns, from a context's state.
M5_DEVICE void load_slice(const Sizes& size, const float* states, int context, int batch,
                          float* slice) {
  const int floats = size.features * kColumns * kHeads;
  const float* from =
      states + context * size.state + (std::int64_t{blockIdx.x} * size.batches + batch) * floats;
  __syncthreads();  // nobody reads the one before
  for (int e = static_cast<int>(threadIdx.x) * 4; e < floats; e += kThreads * 4) {
    *reinterpret_cast<Four<float>*>(slice + e) = *reinterpret_cast<const Four<float>*>(from + e);
  }
  __syncthreads();
}

// --- kernels. grid: blocks of 8 heads, pieces.

template <class E>
M5_KERNEL M5_BOUNDS(kThreads, 4)
    query_kernel(const Piece* pieces, std::int64_t first_row, Sizes size, const E* q,
                 const float* states, E* o, float* weight_sum) {
  constexpr int R = 4;
  float* slice = shared_memory<float>();
  const Piece& piece = pieces[blockIdx.y];
  const int head_lane = static_cast<int>(threadIdx.x) % kHeads;
  const std::int64_t H = size.heads, head = std::int64_t{blockIdx.x} * kHeads + head_lane;
  for (int tile = 0; tile < piece.rows; tile += R * kRowLanes) {
    const Rows<R> rows(piece, first_row, tile);
    float z[R][4], scale[R];
    load_bounded<E, R>(q + head, 4 * H, H, size.bound, rows, z, scale);
    for (int batch = 0; batch < size.batches; ++batch) {
      if (size.batches > 1 || tile == 0) load_slice(size, states, piece.context, batch, slice);
      float u[R][kColumns] = {};
      add_products<R>(size.order, slice + head_lane, z, u);
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
template <class E>
M5_KERNEL M5_BOUNDS(kThreads, 2)
    query_backward_kernel(const Piece* pieces, std::int64_t first_row, Sizes size, const E* q,
                          const float* states, const E* o, const float* weight_sum, const E* d_o,
                          E* dq, E* du) {
  constexpr int R = 4;
  float* slice = shared_memory<float>();
  const Piece& piece = pieces[blockIdx.y];
  const int head_lane = static_cast<int>(threadIdx.x) % kHeads;
  const std::int64_t H = size.heads, head = std::int64_t{blockIdx.x} * kHeads + head_lane;
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
      if (size.batches > 1 || tile == 0) load_slice(size, states, piece.context, batch, slice);
      float g[R][kColumns];
#pragma unroll
      for (int r = 0; r < R; ++r) {
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
      add_slopes<R>(size.order, size.features, slice + head_lane, z, g, dz);
    }
    store_bound_gradient<E, R>(z, dz, scale, size.bound, rows, 4 * H, H, dq + head);
  }
}

template <class E>
M5_KERNEL M5_BOUNDS(kThreads, 4)
    accumulate_backward_kernel(const Piece* pieces, std::int64_t first_row, Sizes size, const E* kv,
                               const float* d_states, E* d_kv) {
  constexpr int R = 2;
  float* slice = shared_memory<float>();
  const Piece& piece = pieces[blockIdx.y];
  const int head_lane = static_cast<int>(threadIdx.x) % kHeads;
  const std::int64_t H = size.heads, head = std::int64_t{blockIdx.x} * kHeads + head_lane;
  const int V = size.value_dim;
  const std::int64_t stride = (4 + V) * H;
  for (int tile = 0; tile < piece.rows; tile += R * kRowLanes) {
    const Rows<R> rows(piece, first_row, tile);
    float z[R][4], scale[R], dz[R][4] = {};
    load_bounded<E, R>(kv + head, stride, H, size.bound, rows, z, scale);
    for (int batch = 0; batch < size.batches; ++batch) {
      if (size.batches > 1 || tile == 0) load_slice(size, d_states, piece.context, batch, slice);
      float v[R][kColumns], dv[R][kColumns] = {};
#pragma unroll
      for (int r = 0; r < R; ++r) {
#pragma unroll
        for (int c = 0; c < kValues; ++c) {
          const int column = batch * kValues + c;
          v[r][c] = column < V ? to_float(kv[rows.at[r] * stride + (4 + column) * H + head]) : 0.0f;
        }
        v[r][kValues] = 1;  // the state's gradient has this column in the first batch only
      }
      add_slopes<R>(size.order, size.features, slice + head_lane, z, v, dz);
      add_products<R>(size.order, slice + head_lane, z, dv);
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

Sizes sizes(const AttentionSize& s) {
  return {s.heads, s.state(), s.value_dim, s.batches(), s.order, s.features, s.bound};
}

}  // namespace

template <class E>
void query(Device& device, const AttentionSize& size, const Pieces& p, const E* q,
           const float* scaled, E* o, float* weight_sum) {
  if constexpr (std::is_same_v<E, bf16>) {
    if (size.tensor_cores) return query_mma(device, size, p, q, scaled, o, weight_sum);
  }
  device.launch("query", query_kernel<E>, heads_and_pieces(size, p), kThreads, size.slice_bytes(),
                p.pieces, p.first_row, sizes(size), q, scaled, o, weight_sum);
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
  device.launch("query_backward", query_backward_kernel<E>, heads_and_pieces(size, p), kThreads,
                size.slice_bytes(), p.pieces, p.first_row, sizes(size), q, scaled, o, weight_sum,
                d_o, dq, du);
}

template <class E>
void accumulate_backward(Device& device, const AttentionSize& size, const Pieces& p, const E* kv,
                         const float* d_state, E* d_kv) {
  if constexpr (std::is_same_v<E, bf16>) {
    if (size.tensor_cores) return accumulate_backward_mma(device, size, p, kv, d_state, d_kv);
  }
  device.launch("accumulate_backward", accumulate_backward_kernel<E>, heads_and_pieces(size, p),
                kThreads, size.slice_bytes(), p.pieces, p.first_row, sizes(size), kv, d_state,
                d_kv);
}

#define M5_INSTANTIATE(E)                                                                          \
  template void query<E>(Device&, const AttentionSize&, const Pieces&, const E*, const float*, E*, \
                         float*);                                                                  \
  template void query_backward<E>(Device&, const AttentionSize&, const Pieces&, const E*,          \
                                  const float*, const E*, const float*, const E*, E*, E*);         \
  template void accumulate_backward<E>(Device&, const AttentionSize&, const Pieces&, const E*,     \
                                       const float*, E*);
M5_INSTANTIATE(float)
M5_INSTANTIATE(bf16)
#undef M5_INSTANTIATE

}  // namespace m5::kernels::cuda
