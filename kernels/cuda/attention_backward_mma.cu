// The gradients of queries, and of keys and values, on tensor cores: rows of A are tokens, its
// columns those of the state. Monomials and their slopes are fp32.
#include "kernels/cuda/attention_mma.hpp"

namespace m5::kernels::cuda {
namespace {

using namespace tensor;

constexpr unsigned kAll = 0xffffffffu;
constexpr int kRows = 32;  // of a tile: a thread moves one row of one head
static_assert(kRows * kHeads == kThreads);

// Bounded vectors, in whose place their gradients come, and columns.
struct Tile {
  float vectors[kRows * kFourStride];
  Eight columns[kRows * kFourStride / 4];
  unsigned last[kRows * kHeads];  // the last column of queries' gradients, as an operand

  M5_DEVICE static int own() {
    const int thread = static_cast<int>(threadIdx.x);
    return thread / kHeads * (kFourStride / 4) + thread % kHeads;
  }
  // Of this thread's row and head.
  M5_DEVICE Four<float>& vector() { return reinterpret_cast<Four<float>*>(vectors)[own()]; }
  M5_DEVICE Eight& column() { return columns[own()]; }
};

M5_DEVICE float quad_sum(float x) {
  x += __shfl_xor_sync(kAll, x, 1);
  return x + __shfl_xor_sync(kAll, x, 2);
}

// A state transposed as B: rows its columns, columns slots. at: [9][slots].
template <int P>
struct ByColumn {
  unsigned b[kPairs<P>][2];

  M5_DEVICE void load(const float* at, int g, int q) {
#pragma unroll
    for (int j = 0; j < kPairs<P>; ++j) {
      const float* slot = at + 8 * j + g;
      b[j][0] = pack(slot[2 * q * kSlots<P>], slot[(2 * q + 1) * kSlots<P>]);
      const float last = slot[kValues * kSlots<P>];
      b[j][1] = q == 0 ? pack(last, 0.0f) : 0;
    }
  }
};

// From a, the gradients of what two tokens read or the values that they add: the gradients of their
// unbounded vectors, component q of each in lane q. z: their bounded vectors rotated by q.
template <int P>
M5_DEVICE void vector_gradients(const unsigned (&a)[4], const ByColumn<P>& state,
                                const float (&z)[2][4], const Sizes& size, float (&dz)[2]) {
  constexpr int kReps = kRepresentatives<P>;
  float dm[2][kReps];
#pragma unroll
  for (int j = 0; j < kPairs<P>; ++j) {
    float d[4] = {};
    mma(d, a, state.b[j][0], state.b[j][1]);
#pragma unroll
    for (int e = 0; e < 4; ++e) dm[e / 2][2 * j + e % 2] = d[e];
  }
  const int q = lane() % 4, quad = lane() - q;
#pragma unroll
  for (int token = 0; token < 2; ++token) {
    float m[kReps], slope[4] = {};
    representatives<P>(z[token], m);
    representatives_backward<P>(z[token], m, dm[token], slope);
    // Lane q + s holds component q as its number 4 - s.
    float d = slope[0];
#pragma unroll
    for (int s = 1; s < 4; ++s) d += __shfl_sync(kAll, slope[4 - s], quad + (q + s) % 4);
    const float own = z[token][0];
    const float dot = quad_sum(d * own) * size.inverse_bound;
    // s^2 = R / (R + |z|^2) = 1 - |z'|^2 / R
    float square = 0;
#pragma unroll
    for (int i = 0; i < 4; ++i) square = fmaf(z[token][i], z[token][i], square);
    const float scale = fast_root(fmaxf(fmaf(-square, size.inverse_bound, 1), 0.0f));
    dz[token] = scale * (d - own * dot);
  }
}

// The gradient of a vector that has been computed in its place.
M5_DEVICE void store_vector(Tile& tile, bf16* to) {
  const Four<float> d = tile.vector();
  *reinterpret_cast<Vector*>(to) = {pack(d.v[0], d.v[1]), pack(d.v[2], d.v[3])};
}

// --- du_c = g_c / n, du_dv = -(g.o) / n; dq by way of dm = du S^T.

// What a thread has of one row and head, on its way in registers.
struct IncomingQuery {
  Vector query;
  Eight o, d_o;
  float sum;
};

// grids: heads_and_pieces.
template <int P>
M5_KERNEL M5_BOUNDS(kThreads, kBlocks<P>)
    query_backward_mma_kernel(const Piece* pieces, std::int64_t first_row, Sizes size,
                              const bf16* queries, const float* states, const bf16* o,
                              const float* weight_sum, const bf16* d_o, bf16* dq, bf16* du) {
  Tile* tiles = shared_memory<Tile>();
  const Piece& piece = pieces[blockIdx.y];
  const int rows = piece.rows, g = lane() / 4, q = lane() % 4, thread = threadIdx.x;
  const std::int64_t H = size.heads, own_head = blockIdx.x * kHeads + thread % kHeads;
  const std::int64_t own_row = piece.row - first_row + thread / kHeads;
  const auto there = [&](int row) { return row + thread / kHeads < rows; };
  IncomingQuery next;
  const auto load = [&](int row) {
    next = {};
    next.sum = 1;
    if (!there(row)) return;
    const std::int64_t at = (own_row + row) * H + own_head;
    next.query = *reinterpret_cast<const Vector*>(queries + at * 4);
    next.o = *reinterpret_cast<const Eight*>(o + at * kValues);
    next.d_o = *reinterpret_cast<const Eight*>(d_o + at * kValues);
    next.sum = weight_sum[at];
  };
  const auto stage = [&](int row, Tile& tile) {
    bounded(next.query, size.bound, size.root, tile.vector().v);
    const float inverse = fast_inverse(next.sum);
    float dot = 0;
    Eight d;
#pragma unroll
    for (int c = 0; c < 4; ++c) {
      const float first = first_of(next.d_o.pair[c]), second = second_of(next.d_o.pair[c]);
      dot = fmaf(first, first_of(next.o.pair[c]), dot);
      dot = fmaf(second, second_of(next.o.pair[c]), dot);
      d.pair[c] = pack(first * inverse, second * inverse);
    }
    const unsigned last = pack(-dot * inverse, 0.0f);
    tile.column() = d;
    tile.last[thread] = last;
    if (!there(row)) return;
    bf16* to = du + (own_row + row) * (H * kColumns);
    *reinterpret_cast<Eight*>(to + own_head * kValues) = d;
    to[H * kValues + own_head] = bf16{static_cast<std::uint16_t>(last)};
  };
  const auto store = [&](int row, Tile& tile) {
    if (there(row)) store_vector(tile, dq + ((own_row + row) * H + own_head) * 4);
  };

  load(0);
  ByColumn<P> state;
  state.load(states + piece.context * size.state + state_column<P>(blockIdx.x, head()), g, q);
  int buffer = 0;
  for (int row = 0; row < rows; row += kRows, buffer ^= 1) {
    Tile& tile = tiles[buffer];
    stage(row, tile);
    __syncthreads();  // the tile is there, and the gradients of the one before
    if (row + kRows < rows) load(row + kRows);
    if (row > 0) store(row - kRows, tiles[buffer ^ 1]);
    for (int step = 0; step < kRows && row + step < rows; step += 16) {
      unsigned a[4];
      float z[2][4], dz[2];
      float* vector[2];
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int r = step + g + 8 * half;
        a[half] = tile.columns[r * (kFourStride / 4) + head()].pair[q];
        a[half + 2] = tile.last[r * kHeads + head()];  // of q > 0 the state has 0
        vector[half] = tile.vectors + r * kFourStride + head() * 4;
        rotated(vector[half], q, z[half]);
      }
      vector_gradients<P>(a, state, z, size, dz);
      __syncwarp();  // the quad has read its vectors
#pragma unroll
      for (int half = 0; half < 2; ++half) vector[half][q] = dz[half];
    }
  }
  __syncthreads();
  store((rows - 1) / kRows * kRows, tiles[buffer ^ 1]);
}

// --- dv = phi(k) dS, dk by way of dm = [v, 1] dS^T; dv comes in the place of v.
template <int P>
M5_KERNEL M5_BOUNDS(kThreads, kBlocks<P>)
    accumulate_backward_mma_kernel(const Piece* pieces, std::int64_t first_row, Sizes size,
                                   const bf16* kv, const float* d_states, bf16* d_kv) {
  constexpr int kSteps = (kPairs<P> + 1) / 2;
  Tile* tiles = shared_memory<Tile>();
  const Piece& piece = pieces[blockIdx.y];
  const int rows = piece.rows, g = lane() / 4, q = lane() % 4, thread = threadIdx.x;
  const std::int64_t H = size.heads, stride = (4 + kValues) * H;
  const std::int64_t own_head = blockIdx.x * kHeads + thread % kHeads;
  const std::int64_t own_row = piece.row - first_row + thread / kHeads;
  const std::int64_t key = own_row * stride + own_head * 4,
                     value = own_row * stride + H * 4 + own_head * kValues;
  const auto there = [&](int row) { return row + thread / kHeads < rows; };
  Vector next;
  const auto load = [&](int row, Tile& tile) {
    next = {};
    if (there(row)) {
      next = *reinterpret_cast<const Vector*>(kv + key + row * stride);
      __pipeline_memcpy_async(&tile.column(), kv + value + row * stride, sizeof(Eight));
    } else {
      tile.column() = {};
    }
    __pipeline_commit();
  };
  const auto store = [&](int row, Tile& tile) {
    if (!there(row)) return;
    store_vector(tile, d_kv + key + row * stride);
    *reinterpret_cast<Eight*>(d_kv + value + row * stride) = tile.column();
  };

  load(0, tiles[0]);
  const float* at = d_states + piece.context * size.state + state_column<P>(blockIdx.x, head());
  ByColumn<P> by_column;
  by_column.load(at, g, q);
  unsigned by_slot[2 * kSteps];
#pragma unroll
  for (int j = 0; j < 2 * kSteps; ++j) {
    const Two s = slot_pair<P>(at, g, j, q);
    by_slot[j] = pack(s.v[0], s.v[1]);
  }

  int buffer = 0;
  for (int row = 0; row < rows; row += kRows, buffer ^= 1) {
    Tile &tile = tiles[buffer], &other = tiles[buffer ^ 1];
    bounded(next, size.bound, size.root, tile.vector().v);
    __pipeline_wait_prior(0);
    __syncthreads();  // the tile is there, and the gradients of the one before
    if (row > 0) store(row - kRows, other);
    if (row + kRows < rows) load(row + kRows, other);
    for (int step = 0; step < kRows && row + step < rows; step += 16) {
      float z[2][4], dz[2], dv[4] = {};
      float* vector[2];
      unsigned* values[2];
      unsigned m[2][kPairs<P>];
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int r = step + g + 8 * half;
        vector[half] = tile.vectors + r * kFourStride + head() * 4;
        values[half] = tile.columns[r * (kFourStride / 4) + head()].pair + q;
        rotated(vector[half], q, z[half]);
        feature_pairs<P>(pack(z[half][0], z[half][1]), pack(z[half][2], z[half][3]), m[half]);
      }
#pragma unroll
      for (int t = 0; t < kSteps; ++t) {
        unsigned a[4];
        slot_columns<P>(m, t, a);
        // A gradient: its state as one bf16, like the other operands.
        mma(dv, a, by_slot[2 * t], by_slot[2 * t + 1]);
      }
      constexpr unsigned kUnit = kOnes & 0xffffu;  // of q > 0 the state has 0
      const unsigned a[4] = {*values[0], *values[1], kUnit, kUnit};
      vector_gradients<P>(a, by_column, z, size, dz);
      __syncwarp();  // the quad has read its vectors; the values no other lane reads
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        vector[half][q] = dz[half];
        *values[half] = pack(dv[2 * half], dv[2 * half + 1]);
      }
    }
  }
  __syncthreads();
  store((rows - 1) / kRows * kRows, tiles[buffer ^ 1]);
}

}  // namespace

void query_backward_mma(Device& device, const AttentionSize& size, const Pieces& p, const bf16* q,
                        const float* scaled, const bf16* o, const float* weight_sum,
                        const bf16* d_o, bf16* dq, bf16* du) {
  by_order(size.order, [&](auto order) {
    device.launch("query_backward", query_backward_mma_kernel<decltype(order)::value>,
                  heads_and_pieces(size, p), kThreads, 2 * sizeof(Tile), p.pieces, p.first_row,
                  sizes(size), q, scaled, o, weight_sum, d_o, dq, du);
  });
}

void accumulate_backward_mma(Device& device, const AttentionSize& size, const Pieces& p,
                             const bf16* kv, const float* d_state, bf16* d_kv) {
  by_order(size.order, [&](auto order) {
    device.launch("accumulate_backward", accumulate_backward_mma_kernel<decltype(order)::value>,
                  heads_and_pieces(size, p), kThreads, 2 * sizeof(Tile), p.pieces, p.first_row,
                  sizes(size), kv, d_state, d_kv);
  });
}

}  // namespace m5::kernels::cuda
