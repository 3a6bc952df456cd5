// u = phi(q) S on tensor cores: rows of A are tokens, its columns the slots of two pairs of
// representatives, each lane's of its own rotation. States enter as the sum of two bf16. The
// gradients: attention_backward_mma.cu.
#include "kernels/cuda/attention_mma.hpp"

namespace m5::kernels::cuda {
namespace {

using namespace tensor;

constexpr int kRows = 64;  // of a tile

// A tile of queries, bounded, and one of outputs.
struct Tile {
  Vector queries[kRows * kTwoStride / 2];
  Eight outputs[kRows * kFourStride / 4];
  float sums[kRows * kHeads];
};

// Two queries of neighbouring heads, as a thread moves them.
struct Incoming {
  Eight two;

  // queries: of the piece, at the block's first head.
  M5_DEVICE void load(const bf16* queries, int heads, int row, int rows) {
    const int thread = static_cast<int>(threadIdx.x), r = row + thread / 4;
    two = {};
    if (r < rows) {
      two =
          *reinterpret_cast<const Eight*>(queries + std::int64_t{r} * (4 * heads) + thread % 4 * 8);
    }
  }
  M5_DEVICE void store(const Sizes& o, Tile& tile) const {
    const int thread = static_cast<int>(threadIdx.x);
    Vector* to = tile.queries + thread / 4 * (kTwoStride / 2) + thread % 4 * 2;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      float z[4];
      bounded({two.pair[2 * i], two.pair[2 * i + 1]}, o.bound, o.root, z);
      to[i] = {pack(z[0], z[1]), pack(z[2], z[3])};
    }
  }
};
static_assert(kRows * 4 == kThreads);

// The tile's outputs to rows of bf16; o, weight_sum: of the piece, at the block's first head.
M5_DEVICE void store_outputs(const Tile& tile, int heads, int row, int rows, bf16* o,
                             float* weight_sum) {
#pragma unroll
  for (int i = 0; i < kRows * kHeads / kThreads; ++i) {
    const int e = static_cast<int>(threadIdx.x) + i * kThreads, r = e / kHeads, h = e % kHeads;
    if (row + r >= rows) continue;
    const std::int64_t to = std::int64_t{row + r} * heads;
    *reinterpret_cast<Eight*>(o + to * kValues + h * kValues) =
        tile.outputs[r * (kFourStride / 4) + h];
    if (weight_sum) weight_sum[to + h] = tile.sums[e];
  }
}

// grid: heads_and_pieces.
template <int P>
M5_KERNEL M5_BOUNDS(kThreads, kBlocks<P>)
    query_mma_kernel(const Piece* pieces, std::int64_t first_row, Sizes size, const bf16* queries,
                     const float* states, bf16* o, float* weight_sum) {
  constexpr int kSteps = (kPairs<P> + 1) / 2;
  Tile* tiles = shared_memory<Tile>();
  const Piece& piece = pieces[blockIdx.y];
  const int rows = piece.rows, g = lane() / 4, q = lane() % 4, H = size.heads;
  const std::int64_t from = piece.row - first_row, first_head = std::int64_t{blockIdx.x} * kHeads;
  queries += (from * H + first_head) * 4;
  o += (from * H + first_head) * kValues;
  if (weight_sum) weight_sum += from * H + first_head;

  Incoming next;
  next.load(queries, H, 0, rows);
  // The state as B: rows slots, columns values, and another one whose even columns are the high
  // part of the sum of weights, the odd ones the low part.
  unsigned high[2 * kSteps], low[2 * kSteps], total[2 * kSteps];
  const float* state = states + piece.context * size.state + state_column<P>(blockIdx.x, head());
#pragma unroll
  for (int j = 0; j < 2 * kSteps; ++j) {
    const Two s = slot_pair<P>(state, g, j, q), sum = slot_pair<P>(state, kValues, j, q);
    high[j] = pack(s.v[0], s.v[1]);
    low[j] = pack(rest(s.v[0]), rest(s.v[1]));
    total[j] = g % 2 == 0 ? pack(sum.v[0], sum.v[1]) : pack(rest(sum.v[0]), rest(sum.v[1]));
  }
  const unsigned first_two = rotation_bytes(q), last_two = rotation_bytes(q + 2);

  int buffer = 0;
  for (int row = 0; row < rows; row += kRows, buffer ^= 1) {
    Tile& tile = tiles[buffer];
    next.store(size, tile);
    __syncthreads();  // the queries are there, and the outputs of the tile before
    if (row + kRows < rows) next.load(queries, H, row + kRows, rows);
    if (row > 0) store_outputs(tiles[buffer ^ 1], H, row - kRows, rows, o, weight_sum);
#pragma unroll
    for (int step = 0; step < kRows; step += 16) {
      if (row + step >= rows) break;
      unsigned m[2][kPairs<P>];
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const Vector z = tile.queries[(step + g + 8 * half) * (kTwoStride / 2) + head()];
        feature_pairs<P>(select_bytes(z.pair[0], z.pair[1], first_two),
                         select_bytes(z.pair[0], z.pair[1], last_two), m[half]);
      }
      float u[4] = {}, more[4] = {}, n[4] = {};  // three chains of sums: one would wait for itself
#pragma unroll
      for (int t = 0; t < kSteps; ++t) {
        unsigned a[4];
        slot_columns<P>(m, t, a);
        mma(u, a, high[2 * t], high[2 * t + 1]);
        mma(more, a, low[2 * t], low[2 * t + 1]);
        mma(n, a, total[2 * t], total[2 * t + 1]);
      }
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int r = step + g + 8 * half;
        const float sum = n[2 * half] + n[2 * half + 1], inverse = fast_inverse(sum);
        unsigned* to = tile.outputs[r * (kFourStride / 4) + head()].pair + q;
        *to = pack((u[2 * half] + more[2 * half]) * inverse,
                   (u[2 * half + 1] + more[2 * half + 1]) * inverse);
        if (weight_sum && q == 0) tile.sums[r * kHeads + head()] = sum;
      }
    }
  }
  __syncthreads();
  const int last = (rows - 1) / kRows * kRows;
  store_outputs(tiles[buffer ^ 1], H, last, rows, o, weight_sum);
}

}  // namespace

void query_mma(Device& device, const AttentionSize& size, const Pieces& p, const bf16* q,
               const float* scaled, bf16* o, float* weight_sum) {
  by_order(size.order, [&](auto order) {
    device.launch("query", query_mma_kernel<decltype(order)::value>, heads_and_pieces(size, p),
                  kThreads, 2 * sizeof(Tile), p.pieces, p.first_row, sizes(size), q, scaled, o,
                  weight_sum);
  });
}

}  // namespace m5::kernels::cuda
