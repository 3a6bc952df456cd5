// What the kernels by the tensor cores of a warpgroup share: a warp has 16 rows, norm(x) of them as
// fragments; weights lie in shared memory as warpgroup_mma.hpp says, 64 hidden columns a stage.
#pragma once

#include "kernels/cuda/fused_mma.hpp"
#include "kernels/cuda/warpgroup_mma.hpp"

namespace m5::kernels::cuda::fused {

inline constexpr int kStageColumns = kSwizzleRow;
inline constexpr int kSteps = kStageColumns / 16;  // of k

// From 8 neighbours a lane, in pairs, to the pairs 2q, 2q + 1 of 4 tiles, which B's order of k
// asks for, and back: number i of lane q of 4 becomes number q of lane i.
M5_DEVICE void transpose_quad(unsigned (&tile)[2][4]) {
  const int q = lane() % 4;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
#pragma unroll
    for (int mask = 1; mask <= 2; ++mask) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        if (i & mask) continue;
        unsigned &low = pair_of(tile, i, half), &high = pair_of(tile, i + mask, half);
        const bool upper = (q & mask) != 0;
        const unsigned other = __shfl_xor_sync(0xffffffffu, upper ? low : high, mask);
        if (upper) {
          low = other;
        } else {
          high = other;
        }
      }
    }
  }
}

// 64 rows of W [][D], 64 of their columns after the other.
template <int D, int kThreads>
M5_DEVICE void copy_swizzled_rows(const bf16* weight, Eight* to) {
  constexpr int kEach = D / 8, kRows = kThreads / kEach, kCount = kStageColumns * kEach;
  static_assert(kRows == 4 || kRows % 8 == 0, "rows are swizzled in one or two ways");
  const int thread = thread_again(), row = thread / kEach, c = thread % kEach;
  weight += thread * 8;
  to += c / 8 * (kStageColumns * 8);
  Eight* const ways[2] = {to + swizzled(row, c % 8), to + swizzled(row + kRows, c % 8) - kRows * 8};
#pragma unroll
  for (int i = 0; i < kCount; i += kThreads) {
    if (i + kThreads > kCount && i + thread >= kCount) break;
    const int way = kRows == 4 ? i / kThreads % 2 : 0;
    __pipeline_memcpy_async(ways[way] + i / kEach * 8, weight + i * 8, sizeof(Eight));
  }
}

// inner = W norm(x) + b of the 64 rows of W of a stage, begun; bias: b of the stage, as pairs.
template <int kGroups>
M5_DEVICE void begin_hidden(const Fragments<1, kGroups>& normed, const Eight* weights,
                            const Eight* bias, float (&inner)[kStageColumns / 8][4]) {
  const auto* b = reinterpret_cast<const unsigned*>(bias) + lane() % 4;
#pragma unroll
  for (int t = 0; t < kStageColumns / 8; ++t) {
    inner[t][0] = inner[t][2] = first_of(b[4 * t]);
    inner[t][1] = inner[t][3] = second_of(b[4 * t]);
  }
  const Operand weight = operand(weights);
  before_products(inner);
#pragma unroll
  for (int s = 0; s < 2 * kGroups; ++s) {
    warpgroup_mma(inner, normed[s / 2][0][s % 2],
                  further(weight, s / kSteps * (kStageColumns * 8) + s % kSteps * 2));
  }
  commit_products();
}
// As the A of a product, columns in their order.
M5_DEVICE void take_gelu(const float (&inner)[kStageColumns / 8][4],
                         unsigned (&hidden)[kSteps][4]) {
#pragma unroll
  for (int s = 0; s < kSteps; ++s) {
    float v[8];
#pragma unroll
    for (int e = 0; e < 8; ++e) v[e] = inner[2 * s + e / 4][e % 4];
    gelu(v);
#pragma unroll
    for (int e = 0; e < 4; ++e) hidden[s][e] = pack(v[2 * e], v[2 * e + 1]);
  }
}

}  // namespace m5::kernels::cuda::fused
