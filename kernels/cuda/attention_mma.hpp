// What the kernels of the attention on tensor cores share: products of bf16 with fp32 sums, for
// precision bf16, orders 2 and 4 and up to 8 values a head. A block has the 8 heads of a slice, a
// warp one of them, 16 rows at a time; monomials are made in registers (orbits.hpp).
#pragma once

#include "kernels/cuda/attention.hpp"
#include "kernels/cuda/mma.hpp"
#include "kernels/cuda/orbits.hpp"

namespace m5::kernels::cuda {

// These are called by those of attention.hpp, where AttentionSize::tensor_cores says so.
void accumulate_mma(Device& device, const AttentionSize& size, const Pieces& pieces, const float* z,
                    std::int64_t z_stride, const float* u, std::int64_t u_stride, bool unit_column,
                    float* partial);
void query_mma(Device& device, const AttentionSize& size, const Pieces& pieces, const float* q,
               const float* scaled, bf16* o, float* weight_sum);
void query_backward_mma(Device& device, const AttentionSize& size, const Pieces& pieces,
                        const float* q, const float* scaled, const bf16* o, const float* weight_sum,
                        const bf16* d_o, bf16* dq, float* du);
void accumulate_backward_mma(Device& device, const AttentionSize& size, const Pieces& pieces,
                             const float* kv, const float* d_state, bf16* d_kv);

namespace tensor {

inline constexpr int kThreads = kHeads * kWarp;
inline constexpr int kRows = 64;  // of a tile in shared memory

// A tile is [kRows][parts][8 heads] floats: 4 components, then columns. Rows are an odd number of
// floats, and parts from 8 on are moved by one, so that the reads of a warp meet no bank twice.
template <int kParts>
inline constexpr int kStride = kParts * kHeads + 1;
M5_DEVICE int place(int part) { return part * kHeads + (part >= 8 ? 1 : 0); }

M5_DEVICE int lane() { return static_cast<int>(threadIdx.x) % kWarp; }
M5_DEVICE int head() { return static_cast<int>(threadIdx.x) / kWarp; }

// Where the columns [first, first + count) of a tile come from.
struct Source {
  const float* from;  // of the block's first head
  std::int64_t stride, heads;
};

// Rows [row, row + kRows) of `count` parts from `first_part` on; zero behind the piece's end.
template <int kParts>
M5_DEVICE void copy_parts(const Source& source, std::int64_t first_row, int row, int rows,
                          int first_part, int count, float* tile) {
  const int columns = count * kHeads, groups = kThreads / columns;
  const int thread = static_cast<int>(threadIdx.x);
  const int column = thread % columns, part = column / kHeads, h = column % kHeads;
  if (thread / columns >= groups) return;
  const float* from = source.from + part * source.heads + h;
  for (int r = thread / columns; r < kRows; r += groups) {
    float* to = tile + r * kStride<kParts> + place(first_part + part) + h;
    if (row + r < rows) {
      __pipeline_memcpy_async(to, from + (first_row + row + r) * source.stride, 4);
    } else {
      *to = 0;
    }
  }
}

// z' = z sqrt(R / (R + |z|^2)) of the whole tile.
template <int kParts>
M5_DEVICE void bound_tile(float bound, float* tile) {
  for (int e = static_cast<int>(threadIdx.x); e < kRows * kHeads; e += kThreads) {
    float* z = tile + e / kHeads * kStride<kParts> + e % kHeads;
    float square = 0;
#pragma unroll
    for (int a = 0; a < 4; ++a) square = fmaf(z[a * kHeads], z[a * kHeads], square);
    const float scale = sqrtf(bound / (bound + square));
#pragma unroll
    for (int a = 0; a < 4; ++a) z[a * kHeads] *= scale;
  }
}

// The vector of a row and head as the lanes with this rotation see it.
M5_DEVICE void rotated(const float* row, int rotation, float (&x)[4]) {
#pragma unroll
  for (int i = 0; i < 4; ++i) x[i] = row[(rotation + i) % 4 * kHeads];
}

}  // namespace tensor

}  // namespace m5::kernels::cuda
