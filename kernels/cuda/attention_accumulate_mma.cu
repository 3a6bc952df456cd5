// S^T += [v, 1]^T phi(k) on tensor cores: rows of A are columns of the state, its columns tokens;
// columns of B are features, representatives 2 j and 2 j + 1 in the 4 rotations.
#include "kernels/cuda/attention_mma.hpp"

namespace m5::kernels::cuda {
namespace {

using namespace tensor;

constexpr int kParts = 4 + kColumns;
constexpr int kTile = kRows * kStride<kParts>;

struct Operands {
  const bf16* z;
  std::int64_t z_stride;
  const bf16* u;
  std::int64_t u_stride;
  std::int64_t heads;
  int value_dim, unit_column;
  float bound;
};

// Keys (or queries) and columns of a tile in registers.
struct Parts {
  Incoming<kParts, 4> z;
  Incoming<kParts, kColumns> u;
  M5_DEVICE void load(const Operands& o, std::int64_t first_row, int row, int rows) {
    z.load(o.z, o.z_stride, o.heads, first_row, row, rows, 4);
    u.load(o.u, o.u_stride, o.heads, first_row, row, rows, o.value_dim + !o.unit_column);
  }
  // Column dv, where it comes with u, becomes column 8.
  M5_DEVICE void store(const Operands& o, int row, int rows, float* tile) const {
    z.store(tile, 0);
    u.store(tile, 4);
    if (!o.unit_column && o.value_dim == kValues) return;
    __syncthreads();
    for (int e = static_cast<int>(threadIdx.x); e < kRows * kHeads; e += kThreads) {
      float* at = tile + e / kHeads * kStride<kParts> + e % kHeads;
      float& last = at[place(4 + kValues)];
      if (o.unit_column) {
        last = row + e / kHeads < rows ? 1.0f : 0.0f;
      } else {
        last = at[place(4 + o.value_dim)];
        at[place(4 + o.value_dim)] = 0;
      }
    }
  }
};

// grid: pieces, blocks of 8 heads.
template <int P>
M5_KERNEL M5_BOUNDS(kThreads, 2)
    accumulate_mma_kernel(const Piece* pieces, std::int64_t first_row, Operands o, Slots<P> slots,
                          float* partial) {
  constexpr int kReps = kRepresentatives<P>, kTiles = (kReps + 1) / 2;
  float* tile = shared_memory<float>();
  const Piece& piece = pieces[blockIdx.x];
  const int rows = piece.rows, g = lane() / 4, q = lane() % 4, rotation = g % 4;
  const std::int64_t from = piece.row - first_row;
  o.z += std::int64_t{blockIdx.y} * kHeads;
  o.u += std::int64_t{blockIdx.y} * kHeads;

  float sum[kTiles][4] = {};
  Parts parts;
  parts.load(o, from, 0, rows);
  for (int row = 0; row < rows; row += kRows) {
    __syncthreads();  // the tile before is no longer read
    parts.store(o, row, rows, tile);
    __syncthreads();
    bound_tile<kParts>(o.bound, tile);
    __syncthreads();
    if (row + kRows < rows) parts.load(o, from, row + kRows, rows);
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
  device.launch("accumulate", accumulate_mma_kernel<P>, grid, kThreads, kTile * sizeof(float),
                p.pieces, p.first_row, operands, Slots<P>(), partial);
}

}  // namespace

void accumulate_mma(Device& device, const AttentionSize& size, const Pieces& p, const bf16* z,
                    std::int64_t z_stride, const bf16* u, std::int64_t u_stride, bool unit_column,
                    float* partial) {
  const Operands o{z,           z_stride,    u, u_stride, size.heads, size.value_dim,
                   unit_column, size.bound};
  if (size.order == 2) return launch<2>(device, size, p, o, partial);
  launch<4>(device, size, p, o, partial);
}

}  // namespace m5::kernels::cuda
