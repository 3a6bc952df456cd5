// What the kernels of the attention on tensor cores share: products of bf16 with fp32 sums, for
// precision bf16, orders 2 and 4 and up to 8 values a head. A block has the 8 heads of a slice, a
// warp one of them, 16 rows at a time; monomials are made in registers (orbits.hpp).
#pragma once

#include "kernels/cuda/attention.hpp"
#include "kernels/cuda/mma.hpp"
#include "kernels/cuda/orbits.hpp"

namespace m5::kernels::cuda {

// These are called by those of attention.hpp, where AttentionSize::tensor_cores says so.
void accumulate_mma(Device& device, const AttentionSize& size, const Pieces& pieces, const bf16* z,
                    std::int64_t z_stride, const bf16* u, std::int64_t u_stride, bool unit_column,
                    float* partial);
void query_mma(Device& device, const AttentionSize& size, const Pieces& pieces, const bf16* q,
               const float* scaled, bf16* o, float* weight_sum);
void query_backward_mma(Device& device, const AttentionSize& size, const Pieces& pieces,
                        const bf16* q, const float* scaled, const bf16* o, const float* weight_sum,
                        const bf16* d_o, bf16* dq, bf16* du);
void accumulate_backward_mma(Device& device, const AttentionSize& size, const Pieces& pieces,
                             const bf16* kv, const float* d_state, bf16* d_kv);

namespace tensor {

inline constexpr int kThreads = kHeads * kWarp;
inline constexpr int kRows = 64;  // of a tile in shared memory

// A tile is [kRows][parts][8 heads] floats: 4 components, then columns. Rows are an odd number of
// floats, and parts from 8 on are moved by one, so that the reads of a warp meet no bank twice.
template <int kParts>
inline constexpr int kStride = kParts* kHeads + 1;
M5_DEVICE int place(int part) { return part * kHeads + (part >= 8 ? 1 : 0); }

M5_DEVICE int lane() { return static_cast<int>(threadIdx.x) % kWarp; }
M5_DEVICE int head() { return static_cast<int>(threadIdx.x) / kWarp; }

// The vectors of two rows for one head on their way from device memory: bounded, and as pairs of
// bf16, component by component.
struct IncomingPair {
  bf16 first[4], second[4];

  // from: component 0 of row 0 of the piece, at the head. Zero behind the piece's end.
  M5_DEVICE void load(const bf16* from, std::int64_t stride, std::int64_t heads, int row0, int row1,
                      int rows) {
#pragma unroll
    for (int a = 0; a < 4; ++a) {
      first[a] = row0 < rows ? from[row0 * stride + a * heads] : bf16{0};
      second[a] = row1 < rows ? from[row1 * stride + a * heads] : bf16{0};
    }
  }
  M5_DEVICE void store(float bound, unsigned* to) const {
    float squares[2] = {};
#pragma unroll
    for (int a = 0; a < 4; ++a) {
      squares[0] = fmaf(to_float(first[a]), to_float(first[a]), squares[0]);
      squares[1] = fmaf(to_float(second[a]), to_float(second[a]), squares[1]);
    }
    const float root = sqrtf(bound), scale0 = root * rsqrtf(bound + squares[0]),
                scale1 = root * rsqrtf(bound + squares[1]);
#pragma unroll
    for (int a = 0; a < 4; ++a) {
      to[a * kHeads] = pack(to_float(first[a]) * scale0, to_float(second[a]) * scale1);
    }
  }
};

// The vectors of a pair as the lanes with this rotation see them.
M5_DEVICE void rotated(const unsigned* pair, int rotation, unsigned (&x)[4]) {
#pragma unroll
  for (int i = 0; i < 4; ++i) x[i] = pair[(rotation + i) % 4 * kHeads];
}

// Rows of some parts on their way from device memory into a tile, in registers meanwhile.
template <int kParts, int kCount>
struct Incoming {
  static constexpr int kPieces = kRows * kCount, kEach = (kPieces + kThreads - 1) / kThreads;
  Eight eight[kEach];

  // Rows [row, row + kRows) of a piece, parts [0, count) of `from`: the piece's first row, at the
  // block's first head. Zero behind the end of the piece and of the parts.
  M5_DEVICE void load(const bf16* from, int stride, int heads, int row, int rows, int count) {
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const int e = static_cast<int>(threadIdx.x) + i * kThreads;
      const int r = e / kCount, part = e % kCount;
      eight[i] = {};
      if (e < kPieces && row + r < rows && part < count) {
        eight[i] = *reinterpret_cast<const Eight*>(from + (row + r) * stride + part * heads);
      }
    }
  }
  M5_DEVICE void store(float* tile, int first_part) const {
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const int e = static_cast<int>(threadIdx.x) + i * kThreads;
      if (e >= kPieces) continue;
      float* to = tile + e / kCount * kStride<kParts> + place(first_part + e % kCount);
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        to[2 * k] = first_of(eight[i].pair[k]);
        to[2 * k + 1] = second_of(eight[i].pair[k]);
      }
    }
  }
};

// Parts [first_part, first_part + count) of a tile to rows of bf16; to: as `from` above.
template <int kParts>
M5_DEVICE void store_parts(const float* tile, int first_part, int count, int row, int rows,
                           int stride, int heads, bf16* to) {
  for (int e = static_cast<int>(threadIdx.x); e < kRows * count; e += kThreads) {
    const int r = e / count, part = e % count;
    if (row + r >= rows) continue;
    const float* from = tile + r * kStride<kParts> + place(first_part + part);
    Eight eight;
#pragma unroll
    for (int k = 0; k < 4; ++k) eight.pair[k] = pack(from[2 * k], from[2 * k + 1]);
    *reinterpret_cast<Eight*>(to + (row + r) * stride + part * heads) = eight;
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
