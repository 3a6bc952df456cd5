// What the kernels of fused.hpp share: rows as fragments in the registers of a warp, weights on
// their way through shared memory, 32 of their rows or columns a stage.
//
// Of 32 columns, column 2 q + e of tile i is number 8 q + 2 i + e: of a product's k and of its
// result alike. So what a lane has of a row is 8 neighbours, 16 bytes, in device memory and in
// shared memory, and the fragments of a result are those of the next operand.
#pragma once

#include "kernels/cuda/formulas.hpp"
#include "kernels/cuda/fused.hpp"
#include "kernels/cuda/mma.hpp"

namespace m5::kernels::cuda::fused {

inline constexpr int kColumns = 32;  // of a stage, of a group of fragments
inline constexpr int kEights = kColumns / 8;

// What was computed from this is computed once more, not kept.
M5_DEVICE void forget(unsigned& value) {
#if defined(__CUDA_ARCH__)
  asm volatile("" : "+r"(value));
#else
  static_cast<void>(value);
#endif
}
M5_DEVICE int lane() { return static_cast<int>(threadIdx.x) % kWarp; }
// Read once more: a number that is kept over a loop has a register in it.
M5_DEVICE int thread_again() {
#if defined(__CUDA_ARCH__)
  int thread;
  asm volatile("mov.u32 %0, %%tid.x;" : "=r"(thread));
  return thread;
#else
  return static_cast<int>(threadIdx.x);
#endif
}

// Operands of kTiles times 16 rows, kGroups times 32 columns.
template <int kTiles>
using Group = unsigned[kTiles][2][4];
template <int kTiles, int kGroups>
using Fragments = unsigned[kGroups][kTiles][2][4];

// Columns 8 q + 2 i, + 1 of row 8 half of a tile.
M5_DEVICE unsigned& pair_of(unsigned (&tile)[2][4], int i, int half) {
  return tile[i / 2][i % 2 * 2 + half];
}

// The lane's first row; the others of its kTiles are 8 apart.
template <int kTiles>
M5_DEVICE std::int64_t first_row() {
  const int thread = thread_again();
  return (std::int64_t{blockIdx.x} * (blockDim.x / kWarp) + thread / kWarp) * (16 * kTiles) +
         thread % kWarp / 4;
}

// Rows from there on, as far as a lane has them.
M5_DEVICE int rows_left(std::int64_t n, std::int64_t row) {
  return static_cast<int>(n - row < 32 ? n - row : 32);
}
// from: the lane's columns of its first row; left: so many rows from there on, then zeros.
template <int kTiles>
M5_DEVICE void load_group(const bf16* from, int stride, int left, Group<kTiles>& to) {
#pragma unroll
  for (int m = 0; m < kTiles; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int r = m * 16 + half * 8;
      Eight eight = {};
      if (r < left) eight = *reinterpret_cast<const Eight*>(from + r * stride);
#pragma unroll
      for (int i = 0; i < 4; ++i) pair_of(to[m], i, half) = eight.pair[i];
    }
  }
}
template <int kTiles>
M5_DEVICE void store_group(Group<kTiles>& from, int stride, int left, bf16* to) {
#pragma unroll
  for (int m = 0; m < kTiles; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int r = m * 16 + half * 8;
      Eight eight;
#pragma unroll
      for (int i = 0; i < 4; ++i) eight.pair[i] = pair_of(from[m], i, half);
      if (r < left) *reinterpret_cast<Eight*>(to + r * stride) = eight;
    }
  }
}

// Rows of a warp: kTiles times 16, kGroups times 32 columns.
template <int kTiles, int kGroups>
struct Rows {
  Fragments<kTiles, kGroups> normed;
  float sums[kTiles][kGroups * 4][4];

  M5_DEVICE float& sum(int j, int m, int i, int half, int e) {
    return sums[m][j * 4 + i][half * 2 + e];
  }
  // sums = what lies in normed
  M5_DEVICE void widen() {
#pragma unroll
    for (int j = 0; j < kGroups; ++j) {
#pragma unroll
      for (int m = 0; m < kTiles; ++m) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
#pragma unroll
          for (int half = 0; half < 2; ++half) {
            const unsigned pair = pair_of(normed[j][m], i, half);
            sum(j, m, i, half, 0) = first_of(pair);
            sum(j, m, i, half, 1) = second_of(pair);
          }
        }
      }
    }
  }
  // to = sums + bias of a group; bias: the lane's columns.
  M5_DEVICE void narrow(int j, const bf16* bias, Group<kTiles>& to) {
    const Eight b = *reinterpret_cast<const Eight*>(bias + j * kColumns);
#pragma unroll
    for (int m = 0; m < kTiles; ++m) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          pair_of(to[m], i, half) = pack(sum(j, m, i, half, 0) + first_of(b.pair[i]),
                                         sum(j, m, i, half, 1) + second_of(b.pair[i]));
        }
      }
    }
  }
};

// x gain / sqrt(mean(x^2) + epsilon) in place; gain: the lane's columns.
template <int kTiles, int kGroups, bool kFastRoot = false>
M5_DEVICE void norm_rows(const float* gain, float epsilon, Fragments<kTiles, kGroups>& x) {
  float root[kTiles][2];
#pragma unroll
  for (int m = 0; m < kTiles; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float square = 0;
#pragma unroll
      for (int j = 0; j < kGroups; ++j) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const unsigned pair = pair_of(x[j][m], i, half);
          square = fmaf(first_of(pair), first_of(pair), square);
          square = fmaf(second_of(pair), second_of(pair), square);
        }
      }
      square += __shfl_xor_sync(0xffffffffu, square, 1);
      square += __shfl_xor_sync(0xffffffffu, square, 2);
      constexpr int kDim = kGroups * kColumns;
      root[m][half] = kFastRoot ? fast_inverse_root(square, kDim, epsilon)
                                : inverse_root(square, kDim, epsilon);
    }
  }
#pragma unroll
  for (int j = 0; j < kGroups; ++j) {
    float g[2][4];
    load4(gain + j * kColumns, g[0]);
    load4(gain + j * kColumns + 4, g[1]);
#pragma unroll
    for (int m = 0; m < kTiles; ++m) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          unsigned& pair = pair_of(x[j][m], i, half);
          forget(pair);  // two registers as floats
          pair = pack(first_of(pair) * root[m][half] * g[i / 2][i % 2 * 2],
                      second_of(pair) * root[m][half] * g[i / 2][i % 2 * 2 + 1]);
        }
      }
    }
  }
}

// 32 rows of W [][D] to [32][D / 8]. Rows whose number is odd have the halves of each 128 bytes
// changed, so that 8 lanes that read 16 bytes of two rows meet no bank twice.
template <int D, int kThreads>
M5_DEVICE void copy_rows(const bf16* weight, Eight* to) {
  constexpr int kEach = D / 8;
  static_assert(kThreads / kEach % 2 == 0, "the rows of a thread are all even or all odd");
  const int thread = thread_again();
  const bf16* from = weight + thread * 8;
  to += thread / kEach % 2 == 0 ? thread : thread ^ 4;
#pragma unroll
  for (int i = 0; i < kColumns * kEach; i += kThreads) {
    __pipeline_memcpy_async(to + i, from + i * 8, sizeof(Eight));
  }
}
// 32 columns of W [D][stride] to [D][4].
template <int D, int kThreads>
M5_DEVICE void copy_columns(const bf16* weight, int stride, Eight* to) {
  const int thread = thread_again();
  const bf16* from = weight + std::int64_t{thread / kEights} * stride + thread % kEights * 8;
#pragma unroll
  for (int i = 0; i < D * kEights; i += kThreads) {
    __pipeline_memcpy_async(to + thread + i, from, sizeof(Eight));
    from += kThreads / kEights * stride;
  }
}

// multiply(tile, half of k, fragment) of kCount tiles of weights by 32 columns of k, kUnit of them
// at a time, so that a chain of sums is met again after others; then done(tile). load(tile): asked
// for 4 tiles ahead.
template <int kCount, int kUnit, class Load, class Multiply, class Done>
M5_DEVICE void stream(Load load, Multiply multiply, Done done) {
  Eight w[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) w[i] = load(i);
#pragma unroll
  for (int tile = 0; tile < kCount; tile += kUnit) {
#pragma unroll
    for (int s = 0; s < 2; ++s) {
#pragma unroll
      for (int i = tile; i < tile + kUnit; ++i) {
        multiply(i, s, w[i % 4].pair[2 * s], w[i % 4].pair[2 * s + 1]);
        if (s == 1 && i + 4 < kCount) w[i % 4] = load(i + 4);
      }
    }
    done(tile);
  }
}

// result = then(W x + bias) of the 32 rows of W of a stage; then(8 numbers of a lane).
template <int kTiles, int kGroups, class Then>
M5_DEVICE void multiply_rows(const Eight* weight, const Eight& bias,
                             const Fragments<kTiles, kGroups>& x, Group<kTiles>& result,
                             Then then) {
  constexpr int kEach = kGroups * kEights;
  constexpr int kUnit = 4 / kTiles;  // 4 chains of sums
  const int g = lane() / 4;
  weight += (g / 2 * 8 + g % 2) * kEach + lane() % 4;
  const Eight* even = weight + g % 2 * 4;
  const Eight* odd = weight + (1 - g % 2) * 4;
  // kUnit tiles of rows, group of columns by group, then the next ones.
  const auto of = [](int t) { return t / (kUnit * kGroups) * kUnit + t % kUnit; };
  const auto group = [](int t) { return t / kUnit % kGroups; };
  float sum[kTiles][kUnit][4];
  stream<4 * kGroups, kUnit>(
      [&](int t) {
        const int j = group(t);
        return (j % 2 == 0 ? even : odd)[of(t) * 2 * kEach + j / 2 * 8];
      },
      [&](int t, int s, unsigned b0, unsigned b1) {
        const unsigned pair = bias.pair[of(t)];
#pragma unroll
        for (int m = 0; m < kTiles; ++m) {
          float(&to)[4] = sum[m][t % kUnit];
          if (group(t) == 0 && s == 0) {
            to[0] = to[2] = first_of(pair);
            to[1] = to[3] = second_of(pair);
          }
          mma(to, x[group(t)][m][s], b0, b1);
        }
      },
      [&](int t) {
        if (group(t) + 1 < kGroups) return;
#pragma unroll
        for (int i = 0; i < kUnit; i += 2) {
#pragma unroll
          for (int m = 0; m < kTiles; ++m) {
            float v[8];
#pragma unroll
            for (int e = 0; e < 8; ++e) v[e] = sum[m][i + e / 4][e % 4];
            then(v);
#pragma unroll
            for (int e = 0; e < 4; ++e) {
              result[m][(of(t) + i) / 2][e] = pack(v[2 * e], v[2 * e + 1]);
            }
          }
        }
      });
}

// sums += W x, of the 32 columns of W of a stage.
template <int kTiles, int kGroups>
M5_DEVICE void multiply_columns(const Eight* weight, const Group<kTiles>& x,
                                float (&sums)[kTiles][kGroups * 4][4]) {
  const int g = lane() / 4;
  weight += (g / 2 * 8 + g % 2) * kEights + lane() % 4;
  stream<4 * kGroups, 4 / kTiles>(
      [&](int t) { return weight[(t / 4 * kColumns + t % 4 * 2) * kEights]; },
      [&](int t, int s, unsigned b0, unsigned b1) {
#pragma unroll
        for (int m = 0; m < kTiles; ++m) mma(sums[m][t], x[m][s], b0, b1);
      },
      [](int) {});
}

}  // namespace m5::kernels::cuda::fused
