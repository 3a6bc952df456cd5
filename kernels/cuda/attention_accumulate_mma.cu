// S^T += [v, 1]^T phi(k) on tensor cores: rows of A are columns of the state, its columns tokens;
// columns of B are features, representatives 2 j and 2 j + 1 in the 4 rotations.
#include "kernels/cuda/attention_mma.hpp"

namespace m5::kernels::cuda {
namespace {

using namespace tensor;

// A tile: pairs of rows 2 p, 2 p + 1, [pairs][4 components, 9 columns][8 heads]. By the distance of
// two pairs no bank is met twice.
constexpr int kPairs = kRows / 2, kParts = 4 + kColumns;
constexpr int kPairStride = kParts * kHeads + 2;
constexpr int kTile = kPairs * kPairStride;
static_assert(kPairs * kHeads == kThreads);

struct Operands {
  const bf16* z;
  std::int64_t z_stride;
  const bf16* u;
  std::int64_t u_stride;
  std::int64_t heads;
  int value_dim, unit_column;
  float bound;
};

// Two rows of a column, of 8 heads.
struct ColumnPair {
  Eight first, second;
  M5_DEVICE void load(const bf16* from, std::int64_t stride, int row, int rows, bool there) {
    first = second = {};
    if (there && row < rows) first = *reinterpret_cast<const Eight*>(from + row * stride);
    if (there && row + 1 < rows) {
      second = *reinterpret_cast<const Eight*>(from + (row + 1) * stride);
    }
  }
  M5_DEVICE void store(unsigned* to) const {
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      to[2 * k] = firsts(first.pair[k], second.pair[k]);
      to[2 * k + 1] = seconds(first.pair[k], second.pair[k]);
    }
  }
};

// A tile on its way, in registers: each thread has a vector, a column of values, and some the last
// column.
struct Incoming {
  IncomingPair z;
  ColumnPair u, last;
  unsigned ones;

  // o: at the first row of the piece.
  M5_DEVICE void load(const Operands& o, int row, int rows) {
    const int thread = static_cast<int>(threadIdx.x);
    const int pair = row + thread / kHeads * 2, of = thread % kHeads;
    z.load(o.z + of, o.z_stride, o.heads, pair, pair + 1, rows);
    u.load(o.u + of * o.heads, o.u_stride, pair, rows, of < o.value_dim);
    if (o.unit_column) {
      ones = pair + 1 < rows ? kOnes : pair < rows ? kOnes & 0xffffu : 0;
    } else {
      last.load(o.u + o.value_dim * o.heads, o.u_stride, row + thread * 2, rows, thread < kPairs);
    }
  }
  M5_DEVICE void store(const Operands& o, unsigned* tile) const {
    const int thread = static_cast<int>(threadIdx.x);
    unsigned* to = tile + thread / kHeads * kPairStride;
    const int of = thread % kHeads;
    z.store(o.bound, to + of);
    u.store(to + place(4 + of));
    if (o.unit_column) {
      to[place(4 + kValues) + of] = ones;
    } else if (thread < kPairs) {
      last.store(tile + thread * kPairStride + place(4 + kValues));
    }
  }
};

// grid: blocks of 8 heads, pieces: what the blocks of a piece read and write shares cache lines.
template <int P>
M5_KERNEL M5_BOUNDS(kThreads, 2) accumulate_mma_kernel(const Piece* pieces, std::int64_t first_row,
                                                       Operands o, Slots<P> slots, float* partial) {
  constexpr int kReps = kRepresentatives<P>, kTiles = (kReps + 1) / 2;
  unsigned* tile = shared_memory<unsigned>();
  const Piece& piece = pieces[blockIdx.y];
  const int rows = piece.rows, g = lane() / 4, q = lane() % 4, rotation = g % 4;
  const std::int64_t from = piece.row - first_row;
  o.z += from * o.z_stride + std::int64_t{blockIdx.x} * kHeads;
  o.u += from * o.u_stride + std::int64_t{blockIdx.x} * kHeads;

  float sum[kTiles][4] = {};
  Incoming next;
  next.load(o, 0, rows);
  for (int row = 0; row < rows; row += kRows) {
    __syncthreads();  // the tile before is no longer read
    next.store(o, tile);
    __syncthreads();
    if (row + kRows < rows) next.load(o, row + kRows, rows);
    for (int step = 0; step < kRows && row + step < rows; step += 16) {
      const unsigned* at = tile + (step / 2 + q) * kPairStride + head();
      unsigned a[4], b[2][kTiles];
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const unsigned* pair = at + 4 * half * kPairStride;
        a[2 * half] = pair[place(4 + g)];
        a[2 * half + 1] = g == 0 ? pair[place(4 + kValues)] : 0;
        unsigned x[4], m[kReps];
        rotated(pair, rotation, x);
        representative_pairs<P>(x, m);
#pragma unroll
        for (int j = 0; j < kTiles; ++j) {
          const unsigned odd = 2 * j + 1 < kReps ? m[2 * j + 1 < kReps ? 2 * j + 1 : 0] : 0;
          b[half][j] = g < 4 ? m[2 * j] : odd;
        }
      }
#pragma unroll
      for (int j = 0; j < kTiles; ++j) mma(sum[j], a, b[0][j], b[1][j]);
    }
  }

  const std::int64_t slices = gridDim.x;
  float* out =
      partial + (blockIdx.y * slices + blockIdx.x) * (kFeatures<P> * kColumns * kHeads) + head();
#pragma unroll
  for (int j = 0; j < kTiles; ++j) {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const int n = 2 * q + e % 2, r = 2 * j + n / 4, column = g + e / 2 * 8;
      if (r >= kReps || column >= kColumns) continue;
      const int f = slots.feature[r][n % 4];
      if (f >= 0) out[(f * kColumns + column) * kHeads] = sum[j][e];
    }
  }
}

template <int P>
void launch(Device& device, const AttentionSize& size, const Pieces& p, const Operands& operands,
            float* partial) {
  const dim3 grid(static_cast<unsigned>(size.heads / kHeads), static_cast<unsigned>(p.count));
  device.launch("accumulate", accumulate_mma_kernel<P>, grid, kThreads, kTile * sizeof(unsigned),
                p.pieces, p.first_row, operands, Slots<P>(), partial);
}

}  // namespace

void accumulate_mma(Device& device, const AttentionSize& size, const Pieces& p, const bf16* z,
                    std::int64_t z_stride, const bf16* u, std::int64_t u_stride, bool unit_column,
                    float* partial) {
  const Operands o{z, z_stride, u, u_stride, size.heads, size.value_dim, unit_column, size.bound};
  if (size.order == 2) return launch<2>(device, size, p, o, partial);
  launch<4>(device, size, p, o, partial);
}

}  // namespace m5::kernels::cuda
