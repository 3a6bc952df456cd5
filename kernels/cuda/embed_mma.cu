// The embedding on tensor cores: one-hot tokens times the table. A step of 16 columns of A is two
// taps, 8 apart, of 8 kinds of tokens each. Columns of the table are numbered so that a lane gets
// 16 neighbours of a row: column 2 q + e of tile i is number 16 q + 2 i + e.
#include "kernels/cuda/mma.hpp"
#include "kernels/cuda/sequences.hpp"

namespace m5::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWidth = 64, kTiles = kWidth / 8;  // of a block
constexpr int kRows = 32;                        // of a warp at a time
constexpr int kStride = 2 * kWidth + 4;          // words: no bank is met twice
constexpr int kTokenPairs = 4;

// Taps t and t + 8 are a step of 16 columns; 8 steps after another, the last taps nothing.
M5_BOTH int padded_taps(int window) { return static_cast<int>(round_up(2 * window + 1, 16)); }
M5_BOTH int first_tap(int step) { return step / 8 * 16 + step % 8; }
M5_BOTH int word_stride(int window) {
  return static_cast<int>(round_up(kPieceRows + padded_taps(window), kWarp)) + 8;
}
std::size_t shared_bytes(int window) {
  return sizeof(unsigned) *
         static_cast<std::size_t>((padded_taps(window) / 2 * kStride + word_stride(window)) *
                                  kTokenPairs);
}

// Of 64 columns of the table, [steps][pairs of tokens][lanes' columns][tiles][2 taps]: a word is
// two tokens. PAD is 0.
M5_DEVICE void stage_table(int window, std::int64_t dim, const bf16* table, unsigned* to) {
  constexpr int kEights = kWidth / 8;
  const int units = padded_taps(window) / 2 * kTokenPairs * kEights;
  for (int unit = static_cast<int>(threadIdx.x); unit < units; unit += kThreads) {
    // In this order the lanes that write at a time meet no bank twice.
    const int pair = unit % kTokenPairs, eight = unit / (2 * kTokenPairs) % kEights,
              step = unit / kTokenPairs % 2 + unit / (2 * kTokenPairs * kEights) * 2;
    Eight even[2] = {}, odd[2] = {};
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int tap = first_tap(step) + 8 * half;
      if (tap > 2 * window || 2 * pair >= kTokenPad) continue;
      const bf16* from = table + (std::int64_t{tap} * kTokenKinds + 2 * pair) * dim + eight * 8;
      even[half] = *reinterpret_cast<const Eight*>(from);
      odd[half] = *reinterpret_cast<const Eight*>(from + dim);
    }
    // Tiles 4 (eight % 2) and on, columns 2 (eight / 2) and the next one of each.
    auto* at = reinterpret_cast<Eight*>(to + (step * kTokenPairs + pair) * kStride +
                                        eight / 2 * (4 * kTiles) + eight % 2 * kTiles);
#pragma unroll
    for (int k = 0; k < 4; k += 2) {
      Eight first, second;
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        first.pair[i] = firsts(even[i % 2].pair[k + i / 2], odd[i % 2].pair[k + i / 2]);
        second.pair[i] = seconds(even[i % 2].pair[k + i / 2], odd[i % 2].pair[k + i / 2]);
      }
      at[k / 2] = first;
      at[k / 2 + kTiles / 2] = second;
    }
  }
}
static_assert(kTokenPad == 6 && kTokenKinds == 7);

// [pairs of tokens][positions]: which of the pair, if one, stands there.
M5_DEVICE void stage_tokens(int window, const Piece& piece, const Token* tokens, unsigned* to) {
  const int stride = word_stride(window), there = piece.rows + 2 * window;
  for (int p = static_cast<int>(threadIdx.x); p < kPieceRows + padded_taps(window); p += kThreads) {
    const int token = p < there ? tokens[piece.window + p] : kTokenPad;
    const unsigned one = token % 2 ? kOnes & 0xffff0000u : kOnes & 0xffffu;
#pragma unroll
    for (int pair = 0; pair < kTokenPairs; ++pair) {
      to[pair * stride + p] = token / 2 == pair && token != kTokenPad ? one : 0;
    }
  }
}

// kRows rows of 64 columns; words: at the lane's pair of tokens and first row, weights: at its pair
// of tokens and column, bias, x: at its columns, x at its first row, of which there are `left`.
M5_DEVICE void embed_rows(int steps, int left, std::int64_t dim, const unsigned* words,
                          const unsigned* weights, const float* bias, bf16* x) {
  constexpr int kHalves = kRows / 8;  // of 16 rows
  float sum[kHalves / 2][kTiles][4];
#pragma unroll
  for (int i = 0; i < kTiles; ++i) {
    const float b[2] = {bias[2 * i], bias[2 * i + 1]};
#pragma unroll
    for (int m = 0; m < kHalves / 2; ++m) {
#pragma unroll
      for (int e = 0; e < 4; ++e) sum[m][i][e] = b[e % 2];
    }
  }
#pragma unroll 2
  for (int step = 0; step < steps; ++step) {
    const int tap = first_tap(step);
    Eight b[kTiles / 2];
#pragma unroll
    for (int i = 0; i < kTiles / 2; ++i) {
      b[i] = *reinterpret_cast<const Eight*>(weights + step * (kTokenPairs * kStride) + 4 * i);
    }
    unsigned hot[kHalves + 1];
#pragma unroll
    for (int i = 0; i <= kHalves; ++i) hot[i] = words[tap + 8 * i];
#pragma unroll
    for (int m = 0; m < kHalves / 2; ++m) {
      const unsigned a[4] = {hot[2 * m], hot[2 * m + 1], hot[2 * m + 1], hot[2 * m + 2]};
#pragma unroll
      for (int i = 0; i < kTiles; ++i) {
        mma(sum[m][i], a, b[i / 2].pair[i % 2 * 2], b[i / 2].pair[i % 2 * 2 + 1]);
      }
    }
  }
#pragma unroll
  for (int half = 0; half < kHalves; ++half) {
    if (8 * half >= left) continue;
    Eight out[2];
#pragma unroll
    for (int i = 0; i < kTiles; ++i) {
      const float(&v)[4] = sum[half / 2][i];
      out[i / 4].pair[i % 4] = pack(v[half % 2 * 2], v[half % 2 * 2 + 1]);
    }
    store8(x + 8 * half * dim, out[0]);
    store8(x + 8 * half * dim + 8, out[1]);
  }
}

// grid: blocks of 64 columns, pieces.
M5_KERNEL M5_BOUNDS(kThreads, 2)
    embed_mma_kernel(const Piece* pieces, std::int64_t first_row, int dim, int window,
                     const Token* tokens, const bf16* table, const float* bias, bf16* x) {
  const Piece& piece = pieces[blockIdx.y];
  const int steps = padded_taps(window) / 2, rows = piece.rows;
  unsigned* weights = shared_memory<unsigned>();
  unsigned* words = weights + steps * kTokenPairs * kStride;
  const int column = static_cast<int>(blockIdx.x) * kWidth;
  stage_table(window, dim, table + column, weights);
  stage_tokens(window, piece, tokens, words);
  __syncthreads();

  const int lane = static_cast<int>(threadIdx.x) % kWarp, g = lane / 4, q = lane % 4;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  words += q * word_stride(window) + g;
  weights += q * kStride + g * (2 * kTiles);
  x += (piece.row - first_row + g) * dim + column + 16 * q;
  for (int first = warp * kRows; first < rows; first += kThreads / kWarp * kRows) {
    embed_rows(steps, rows - first - g, dim, words + first, weights, bias + column + 16 * q,
               x + std::int64_t{first} * dim);
  }
}

}  // namespace

bool embed_mma(Device& device, const Pieces& p, int dim, int window, const Token* tokens,
               const bf16* table, const float* bias, bf16* x) {
  if (dim % kWidth != 0 || shared_bytes(window) > device.shared_bytes()) return false;
  const dim3 grid(static_cast<unsigned>(dim / kWidth), static_cast<unsigned>(p.count));
  device.launch("embed", embed_mma_kernel, grid, kThreads, shared_bytes(window), p.pieces,
                p.first_row, dim, window, tokens, table, bias, x);
  return true;
}

}  // namespace m5::kernels::cuda
