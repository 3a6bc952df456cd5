// u = phi(q) S on tensor cores, and the gradients of queries and of keys and values: rows of A are
// tokens, its columns features (representatives 4 t .. 4 t + 3 of each lane's rotation) or the
// columns of the state. States enter as the sum of two bf16 where they are multiplied by monomials.
#include "kernels/cuda/attention_mma.hpp"

namespace m5::kernels::cuda {
namespace {

using namespace tensor;

constexpr unsigned kAll = 0xffffffffu;

M5_DEVICE float quad_sum(float x) {
  x += __shfl_xor_sync(kAll, x, 1);
  return x + __shfl_xor_sync(kAll, x, 2);
}

// slice: the block's slice of a state, at this warp's head.
template <int P>
M5_DEVICE float state_at(const Slots<P>& slots, const float* slice, int r, int rotation,
                         int column) {
  if (r >= kRepresentatives<P>) return 0;
  const int f = slots.feature[r][rotation];
  // Read in any case: a branch would wait for each number.
  const float s = slice[((f < 0 ? 0 : f) * kColumns + column) * kHeads];
  return f < 0 ? 0.0f : s;
}

// The value columns of a state as B: rows features, columns values.
template <int P>
struct ByFeature {
  static constexpr int kSteps = (kRepresentatives<P> + 3) / 4;
  unsigned high[kSteps][2], low[kSteps][2];

  M5_DEVICE void load(const Slots<P>& slots, const float* slice, int g, int q) {
#pragma unroll
    for (int t = 0; t < kSteps; ++t) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const float s0 = state_at(slots, slice, 4 * t + 2 * half, q, g);
        const float s1 = state_at(slots, slice, 4 * t + 2 * half + 1, q, g);
        high[t][half] = pack(s0, s1);
        low[t][half] = pack(rest(s0), rest(s1));
      }
    }
  }
};

// A state transposed as B: rows its columns, columns features: 2 rotation + (r - 2 j).
template <int P>
struct ByColumn {
  static constexpr int kTiles = (kRepresentatives<P> + 1) / 2;
  unsigned b[kTiles][2];

  M5_DEVICE void load(const Slots<P>& slots, const float* slice, int g, int q) {
#pragma unroll
    for (int j = 0; j < kTiles; ++j) tile(slots, slice, g, q, j, b[j]);
  }
  // By way of shared memory, a thread's own numbers, for where there are no registers for them.
  static constexpr int kShared = 2 * kTiles * kThreads;
  M5_DEVICE static void put(const Slots<P>& slots, const float* slice, int g, int q,
                            unsigned* shared) {
#pragma unroll 2
    for (int j = 0; j < kTiles; ++j) {
      unsigned pairs[2];
      tile(slots, slice, g, q, j, pairs);
      shared[2 * j * kThreads + threadIdx.x] = pairs[0];
      shared[(2 * j + 1) * kThreads + threadIdx.x] = pairs[1];
    }
  }
  M5_DEVICE void get(const unsigned* shared) {
#pragma unroll
    for (int i = 0; i < 2 * kTiles; ++i) b[i / 2][i % 2] = shared[i * kThreads + threadIdx.x];
  }

 private:
  M5_DEVICE static void tile(const Slots<P>& slots, const float* slice, int g, int q, int j,
                             unsigned (&pairs)[2]) {
    const int r = 2 * j + g % 2;
    pairs[0] =
        pack(state_at(slots, slice, r, g / 2, 2 * q), state_at(slots, slice, r, g / 2, 2 * q + 1));
    pairs[1] = q == 0 ? pack(state_at(slots, slice, r, g / 2, kValues), 0.0f) : 0;
  }
};

// dm of two tokens, the gradient of their monomials: a, the gradients of what they read or the
// values that they add, times the state.
template <int P>
M5_DEVICE void monomial_gradients(const unsigned (&a)[4], const ByColumn<P>& state,
                                  float (&dm)[2][kRepresentatives<P>]) {
#pragma unroll
  for (int j = 0; j < ByColumn<P>::kTiles; ++j) {
    float d[4] = {};
    mma(d, a, state.b[j][0], state.b[j][1]);
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      if (2 * j + e % 2 < kRepresentatives<P>) dm[e / 2][2 * j + e % 2] = d[e];
    }
  }
}

// From dm, the gradient of the monomials: of this quad's token the gradient of the unbounded
// vector, its component q in lane q. x: the bounded vector rotated by q.
template <int P>
M5_DEVICE float vector_gradient(const float (&x)[4], const float (&m)[kRepresentatives<P>],
                                float (&dm)[kRepresentatives<P>], float bound) {
  float dx[4] = {};
  representatives_backward<P>(x, m, dm, dx);
  const int q = lane() % 4, quad = lane() - q;
  // Lane q + s holds component q as its number 4 - s.
  float d = dx[0];
#pragma unroll
  for (int s = 1; s < 4; ++s) d += __shfl_sync(kAll, dx[4 - s], quad + (q + s) % 4);
  const float dot = quad_sum(d * x[0]) / bound;
  // s^2 = R / (R + |z|^2) = 1 - |z'|^2 / R
  const float square = x[0] * x[0] + x[1] * x[1] + x[2] * x[2] + x[3] * x[3];
  const float scale = sqrtf(fmaxf(1 - square / bound, 0.0f));
  return scale * (d - x[0] * dot);
}

struct Sizes {
  std::int64_t state;
  int heads, value_dim;
  float bound;
};

// Pairs of monomials of two tokens as columns of A.
template <int P>
M5_DEVICE void pair_fragment(const unsigned (&m)[kRepresentatives<P>], int t, unsigned (&a)[4]) {
  constexpr int kReps = kRepresentatives<P>;
  const auto of = [&](int r) { return r < kReps ? m[r < kReps ? r : 0] : 0; };
  a[0] = firsts(of(4 * t), of(4 * t + 1));
  a[1] = seconds(of(4 * t), of(4 * t + 1));
  a[2] = firsts(of(4 * t + 2), of(4 * t + 3));
  a[3] = seconds(of(4 * t + 2), of(4 * t + 3));
}

// grids: blocks of 8 heads, pieces.

// --- u = phi(q) S, o = u / u_dv. Shared memory: pairs of queries g, g + 8 of 16 rows, [pairs][4][8
// heads], and a tile of outputs.
constexpr int kPairs = kRows / 2, kPairStride = 4 * kHeads + 1;
constexpr int kQueryTile = kPairs * kPairStride, kOutputTile = kRows * kStride<kValues>;
static_assert(kPairs * kHeads == kThreads);

template <int P>
M5_KERNEL M5_BOUNDS(kThreads, 2)
    query_mma_kernel(const Piece* pieces, std::int64_t first_row, Sizes size, Slots<P> slots,
                     const bf16* queries, const float* states, bf16* o, float* weight_sum) {
  constexpr int kReps = kRepresentatives<P>, kSteps = ByFeature<P>::kSteps;
  constexpr int kFull = kStride<kValues>;
  unsigned* tile = shared_memory<unsigned>();
  float* outputs = shared_memory<float>() + kQueryTile;
  const Piece& piece = pieces[blockIdx.y];
  const int rows = piece.rows, g = lane() / 4, q = lane() % 4;
  const int H = size.heads;
  const std::int64_t from = piece.row - first_row, block_head = std::int64_t{blockIdx.x} * kHeads;
  o += from * size.value_dim * H + block_head;
  const float* slice = states + piece.context * size.state +
                       blockIdx.x * std::int64_t{kFeatures<P> * kColumns * kHeads} + head();
  ByFeature<P> state;
  state.load(slots, slice, g, q);
  // The sum of weights: column 0 of another product its high part, column 1 the low one.
  unsigned total[kSteps][2];
#pragma unroll
  for (int t = 0; t < kSteps; ++t) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float s0 = state_at(slots, slice, 4 * t + 2 * half, q, kValues);
      const float s1 = state_at(slots, slice, 4 * t + 2 * half + 1, q, kValues);
      total[t][half] = g == 0 ? pack(s0, s1) : g == 1 ? pack(rest(s0), rest(s1)) : 0;
    }
  }

  const int thread = static_cast<int>(threadIdx.x), pair = thread / kHeads, of = thread % kHeads;
  const int pair_row = pair / 8 * 16 + pair % 8;
  queries += from * 4 * H + block_head + of;
  IncomingPair next;
  next.load(queries, 4 * H, H, pair_row, pair_row + 8, rows);
  for (int row = 0; row < rows; row += kRows) {
    next.store(size.bound, tile + pair * kPairStride + of);
    __syncthreads();
    const int then = row + kRows + pair_row;
    if (row + kRows < rows) next.load(queries, 4 * H, H, then, then + 8, rows);
    for (int step = 0; step < kRows && row + step < rows; step += 16) {
      unsigned x[4], m[kReps];
      rotated(tile + (step / 2 + g) * kPairStride + head(), q, x);
      representative_pairs<P>(x, m);
      float u[4] = {}, low[4] = {}, n[4] = {};
#pragma unroll
      for (int t = 0; t < kSteps; ++t) {
        unsigned a[4];
        pair_fragment<P>(m, t, a);
        mma(u, a, state.high[t][0], state.high[t][1]);
        mma(low, a, state.low[t][0], state.low[t][1]);
        mma(n, a, total[t][0], total[t][1]);
      }
      float* out = outputs + (step + g) * kFull + head();
#pragma unroll
      for (int token = 0; token < 2; ++token) {
        const float sum = __shfl_sync(kAll, n[2 * token] + n[2 * token + 1], lane() - q);
        const float inverse = 1 / sum;
        out[token * 8 * kFull + place(2 * q)] = (u[2 * token] + low[2 * token]) * inverse;
        out[token * 8 * kFull + place(2 * q + 1)] =
            (u[2 * token + 1] + low[2 * token + 1]) * inverse;
        const int r = row + step + g + token * 8;
        if (weight_sum && q == 0 && r < rows)
          weight_sum[(from + r) * H + block_head + head()] = sum;
      }
    }
    __syncthreads();  // the outputs are there, and the queries are no longer read
    store_parts<kValues>(outputs, 0, size.value_dim, row, rows, size.value_dim * H, H, o);
  }
}

// --- du_c = g_c / n, du_dv = -(g.o) / n; dq by way of dm = du S^T. A tile: queries, then du.
constexpr int kBackwardParts = 4 + kColumns;
constexpr int kBackwardTile = kRows * kStride<kBackwardParts>;

template <int P>
M5_KERNEL M5_BOUNDS(kThreads, 2)
    query_backward_mma_kernel(const Piece* pieces, std::int64_t first_row, Sizes size,
                              Slots<P> slots, const bf16* queries, const float* states,
                              const bf16* o, const float* weight_sum, const bf16* d_o, bf16* dq,
                              bf16* du) {
  constexpr int kReps = kRepresentatives<P>;
  constexpr int kFull = kStride<kBackwardParts>;
  float* tile = shared_memory<float>();
  const Piece& piece = pieces[blockIdx.y];
  const int rows = piece.rows, g = lane() / 4, q = lane() % 4, V = size.value_dim;
  const int H = size.heads;
  const std::int64_t from = piece.row - first_row, block_head = std::int64_t{blockIdx.x} * kHeads;
  queries += from * 4 * H + block_head;
  dq += from * 4 * H + block_head;
  d_o += from * V * H + block_head;
  du += from * (V + 1) * H + block_head;
  ByColumn<P> state;
  state.load(slots,
             states + piece.context * size.state +
                 blockIdx.x * std::int64_t{kFeatures<P> * kColumns * kHeads} + head(),
             g, q);
  for (int row = 0; row < rows; row += kRows) {
    Incoming<kBackwardParts, 4> q_rows;
    Incoming<kBackwardParts, kValues> d_rows;
    q_rows.load(queries, 4 * H, H, row, rows, 4);
    d_rows.load(d_o, V * H, H, row, rows, V);
    __syncthreads();  // the tile before has been stored
    q_rows.store(tile, 0);
    d_rows.store(tile, 4);
    __syncthreads();
    for (int e = static_cast<int>(threadIdx.x); e < kRows * kHeads; e += kThreads) {
      const int r = e / kHeads, h = e % kHeads;
      float* at = tile + r * kFull + h;
      float dot = 0, inverse = 0;
      if (row + r < rows) {
        const std::int64_t i = from + row + r;
        inverse = 1 / weight_sum[i * H + block_head + h];
#pragma unroll
        for (int c = 0; c < kValues; ++c) {
          if (c >= V) continue;
          dot = fmaf(at[place(4 + c)], to_float(o[(i * V + c) * H + block_head + h]), dot);
        }
      }
#pragma unroll
      for (int c = 0; c < kValues; ++c) at[place(4 + c)] *= inverse;
      at[place(4 + kValues)] = -dot * inverse;
    }
    bound_tile<kBackwardParts>(size.bound, tile);
    __syncthreads();
    store_parts<kBackwardParts>(tile, 4, V, row, rows, (V + 1) * H, H, du);
    store_parts<kBackwardParts>(tile, 4 + kValues, 1, row, rows, (V + 1) * H, H, du + V * H);
    for (int step = 0; step < kRows && row + step < rows; step += 16) {
      float* at = tile + (step + g) * kFull + head();
      const float* below = at + 8 * kFull;
      unsigned a[4];
      a[0] = pack(at[place(4 + 2 * q)], at[place(5 + 2 * q)]);
      a[1] = pack(below[place(4 + 2 * q)], below[place(5 + 2 * q)]);
      a[2] = q == 0 ? pack(at[place(4 + kValues)], 0.0f) : 0;
      a[3] = q == 0 ? pack(below[place(4 + kValues)], 0.0f) : 0;
      float dm[2][kReps];
      monomial_gradients<P>(a, state, dm);
#pragma unroll
      for (int token = 0; token < 2; ++token) {
        float x[4], m[kReps];
        rotated(at + token * 8 * kFull, q, x);
        representatives<P>(x, m);
        const float d = vector_gradient<P>(x, m, dm[token], size.bound);
        at[token * 8 * kFull + q * kHeads] = d;  // the quad has read its vector
      }
    }
    __syncthreads();
    store_parts<kBackwardParts>(tile, 0, 4, row, rows, 4 * H, H, dq);
  }
}

// --- dv = phi(k) dS, dk by way of dm = [v, 1] dS^T. A tile: keys and values, then their gradients.
constexpr int kKeyParts = 4 + kValues;
constexpr int kKeyTile = kRows * kStride<kKeyParts>;

template <int P>
M5_KERNEL M5_BOUNDS(kThreads, 2)
    accumulate_backward_mma_kernel(const Piece* pieces, std::int64_t first_row, Sizes size,
                                   Slots<P> slots, const bf16* kv, const float* d_states,
                                   bf16* d_kv) {
  constexpr int kReps = kRepresentatives<P>;
  constexpr int kSteps = ByFeature<P>::kSteps, kFull = kStride<kKeyParts>;
  float* tile = shared_memory<float>();
  const Piece& piece = pieces[blockIdx.y];
  const int rows = piece.rows, g = lane() / 4, q = lane() % 4, parts = 4 + size.value_dim;
  const int H = size.heads, stride = parts * H;
  const std::int64_t from = (piece.row - first_row) * stride + std::int64_t{blockIdx.x} * kHeads;
  kv += from;
  d_kv += from;
  const float* slice = d_states + piece.context * size.state +
                       blockIdx.x * std::int64_t{kFeatures<P> * kColumns * kHeads} + head();
  ByFeature<P> by_feature;
  by_feature.load(slots, slice, g, q);
  unsigned* const columns = reinterpret_cast<unsigned*>(tile) + kKeyTile;
  ByColumn<P>::put(slots, slice, g, q, columns);
  Incoming<kKeyParts, kKeyParts> next;
  next.load(kv, stride, H, 0, rows, parts);
  for (int row = 0; row < rows; row += kRows) {
    __syncthreads();  // the tile before has been stored
    next.store(tile, 0);
    __syncthreads();
    bound_tile<kKeyParts>(size.bound, tile);
    __syncthreads();
    if (row + kRows < rows) next.load(kv, stride, H, row + kRows, rows, parts);
    for (int step = 0; step < kRows && row + step < rows; step += 16) {
      float* at = tile + (step + g) * kFull + head();
      const float* below = at + 8 * kFull;
      const unsigned values[2] = {pack(at[place(4 + 2 * q)], at[place(5 + 2 * q)]),
                                  pack(below[place(4 + 2 * q)], below[place(5 + 2 * q)])};
      {
        float x[2][4], dv[4] = {};
        unsigned pairs[4], m[kReps], a[4];
        rotated(at, q, x[0]);
        rotated(below, q, x[1]);
#pragma unroll
        for (int i = 0; i < 4; ++i) pairs[i] = pack(x[0][i], x[1][i]);
        representative_pairs<P>(pairs, m);
#pragma unroll
        for (int t = 0; t < kSteps; ++t) {
          pair_fragment<P>(m, t, a);
          // A gradient: its state as one bf16, like the other operands.
          mma(dv, a, by_feature.high[t][0], by_feature.high[t][1]);
        }
        // In the place of the values that this lane, and no other, has read.
#pragma unroll
        for (int e = 0; e < 4; ++e) at[e / 2 * 8 * kFull + place(4 + 2 * q + e % 2)] = dv[e];
      }
      const unsigned unit = q == 0 ? pack(1.0f, 0.0f) : 0,
                     a[4] = {values[0], values[1], unit, unit};
      float dm[2][kReps];
      ByColumn<P> by_column;
      by_column.get(columns);
      monomial_gradients<P>(a, by_column, dm);
#pragma unroll
      for (int token = 0; token < 2; ++token) {
        float x[4], m[kReps];
        rotated(at + token * 8 * kFull, q, x);
        representatives<P>(x, m);
        const float d = vector_gradient<P>(x, m, dm[token], size.bound);
        at[token * 8 * kFull + q * kHeads] = d;  // the quad has read its vector
      }
    }
    __syncthreads();
    store_parts<kKeyParts>(tile, 0, parts, row, rows, stride, H, d_kv);
  }
}

Sizes sizes(const AttentionSize& s) { return {s.state(), s.heads, s.value_dim, s.bound}; }
dim3 grid_of(const AttentionSize& size, const Pieces& pieces) {
  return dim3(static_cast<unsigned>(size.heads / kHeads), static_cast<unsigned>(pieces.count));
}

template <class Launch>
void by_order(int order, Launch launch) {
  if (order == 2) return launch(std::integral_constant<int, 2>());
  launch(std::integral_constant<int, 4>());
}

}  // namespace

void query_mma(Device& device, const AttentionSize& size, const Pieces& p, const bf16* q,
               const float* scaled, bf16* o, float* weight_sum) {
  by_order(size.order, [&](auto order) {
    constexpr int P = decltype(order)::value;
    device.launch("query", query_mma_kernel<P>, grid_of(size, p), kThreads,
                  (kQueryTile + kOutputTile) * sizeof(float), p.pieces, p.first_row, sizes(size),
                  Slots<P>(), q, scaled, o, weight_sum);
  });
}

void query_backward_mma(Device& device, const AttentionSize& size, const Pieces& p, const bf16* q,
                        const float* scaled, const bf16* o, const float* weight_sum,
                        const bf16* d_o, bf16* dq, bf16* du) {
  by_order(size.order, [&](auto order) {
    constexpr int P = decltype(order)::value;
    device.launch("query_backward", query_backward_mma_kernel<P>, grid_of(size, p), kThreads,
                  kBackwardTile * sizeof(float), p.pieces, p.first_row, sizes(size), Slots<P>(), q,
                  scaled, o, weight_sum, d_o, dq, du);
  });
}

void accumulate_backward_mma(Device& device, const AttentionSize& size, const Pieces& p,
                             const bf16* kv, const float* d_state, bf16* d_kv) {
  by_order(size.order, [&](auto order) {
    constexpr int P = decltype(order)::value;
    device.launch("accumulate_backward", accumulate_backward_mma_kernel<P>, grid_of(size, p),
                  kThreads, (kKeyTile + ByColumn<P>::kShared) * sizeof(float), p.pieces,
                  p.first_row, sizes(size), Slots<P>(), kv, d_state, d_kv);
  });
}

}  // namespace m5::kernels::cuda
