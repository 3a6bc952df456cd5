// S^T += [v, 1]^T phi(k) on tensor cores: rows of A are columns of the state, its columns tokens;
// columns of B are features, representatives 2 j and 2 j + 1 in the 4 rotations.
#include "kernels/cuda/attention_mma.hpp"

namespace m5::kernels::cuda {
namespace {

using namespace tensor;

constexpr int kParts = 4 + kColumns;
constexpr int kTile = kRows * kStride<kParts>;

struct Operands {
  Source z, u, last;  // last: column dv of u; null: 1
  int value_dim;
  float bound;
};

M5_DEVICE void stage(const Operands& o, std::int64_t first_row, int row, int rows, float* tile) {
  copy_parts<kParts>(o.z, first_row, row, rows, 0, 4, tile);
  copy_parts<kParts>(o.u, first_row, row, rows, 4, o.value_dim, tile);
  if (o.last.from) copy_parts<kParts>(o.last, first_row, row, rows, 4 + kValues, 1, tile);
  for (int e = static_cast<int>(threadIdx.x); e < kRows * kHeads; e += kThreads) {
    float* at = tile + e / kHeads * kStride<kParts> + e % kHeads;
    for (int c = o.value_dim; c < kValues; ++c) at[place(4 + c)] = 0;
    if (!o.last.from) at[place(4 + kValues)] = row + e / kHeads < rows ? 1.0f : 0.0f;
  }
  __pipeline_commit();
}

// grid: pieces, blocks of 8 heads.
template <int P>
M5_KERNEL M5_BOUNDS(kThreads, 2)
    accumulate_mma_kernel(const Piece* pieces, std::int64_t first_row, Operands o, Slots<P> slots,
                          float* partial) {
  constexpr int kReps = kRepresentatives<P>, kTiles = (kReps + 1) / 2;
  float* tiles = shared_memory<float>();
  const Piece& piece = pieces[blockIdx.x];
  const int rows = piece.rows, g = lane() / 4, q = lane() % 4, rotation = g % 4;
  const std::int64_t from = piece.row - first_row;
  const std::int64_t block_head = std::int64_t{blockIdx.y} * kHeads;
  o.z.from += block_head;
  o.u.from += block_head;
  if (o.last.from) o.last.from += block_head;

  float sum[kTiles][4] = {};
  stage(o, from, 0, rows, tiles);
  for (int row = 0; row < rows; row += kRows) {
    float* tile = tiles + row / kRows % 2 * kTile;
    __pipeline_wait_prior(0);
    __syncthreads();  // the tile is there, and the other one is no longer read
    if (row + kRows < rows) stage(o, from, row + kRows, rows, tiles + (row / kRows + 1) % 2 * kTile);
    bound_tile<kParts>(o.bound, tile);
    __syncthreads();
    for (int step = 0; step < kRows && row + step < rows; step += 16) {
      const float* at = tile + step * kStride<kParts> + head();
      unsigned a[4], b[2][kTiles];
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const float* first = at + (2 * q + 8 * half) * kStride<kParts>;
        const float* second = first + kStride<kParts>;
        const int column = place(4 + g), last = place(4 + kValues);
        a[2 * half] = pack(first[column], second[column]);
        a[2 * half + 1] = g == 0 ? pack(first[last], second[last]) : 0;
        float x[4], m0[kReps], m1[kReps];
        rotated(first, rotation, x);
        representatives<P>(x, m0);
        rotated(second, rotation, x);
        representatives<P>(x, m1);
#pragma unroll
        for (int j = 0; j < kTiles; ++j) {
          const unsigned low = pack(m0[2 * j], m1[2 * j]);
          unsigned high = 0;
          if (2 * j + 1 < kReps) {
            // Not behind the end of an odd number of representatives.
            constexpr int kLast = kReps - 1;
            const int r = 2 * j + 1 < kReps ? 2 * j + 1 : kLast;
            high = pack(m0[r], m1[r]);
          }
          b[half][j] = g < 4 ? low : high;
        }
      }
#pragma unroll
      for (int j = 0; j < kTiles; ++j) mma(sum[j], a, b[0][j], b[1][j]);
    }
  }

  const std::int64_t slices = gridDim.y;
  float* out = partial +
               (blockIdx.x * slices + blockIdx.y) * (kFeatures<P> * kColumns * kHeads) + head();
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
  const dim3 grid(static_cast<unsigned>(p.count), static_cast<unsigned>(size.heads / kHeads));
  device.launch("accumulate", accumulate_mma_kernel<P>, grid, kThreads, 2 * kTile * sizeof(float),
                p.pieces, p.first_row, operands, Slots<P>(), partial);
}

}  // namespace

void accumulate_mma(Device& device, const AttentionSize& size, const Pieces& p, const float* z,
                    std::int64_t z_stride, const float* u, std::int64_t u_stride, bool unit_column,
                    float* partial) {
  const std::int64_t heads = size.heads;
  const Operands o{{z, z_stride, heads},
                   {u, u_stride, heads},
                   {unit_column ? nullptr : u + size.value_dim * heads, u_stride, heads},
                   size.value_dim,
                   size.bound};
  if (size.order == 2) return launch<2>(device, size, p, o, partial);
  launch<4>(device, size, p, o, partial);
}

}  // namespace m5::kernels::cuda
