#include "kernels/cuda/sequences.hpp"

namespace m5::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarp;
constexpr int kBlockColumns = kWarp * 4;

M5_DEVICE int lane() { return static_cast<int>(threadIdx.x) % kWarp; }
M5_DEVICE int warp() { return static_cast<int>(threadIdx.x) / kWarp; }
M5_DEVICE int first_column() { return static_cast<int>(blockIdx.y) * kBlockColumns + lane() * 4; }

// Position in the sequence, or -1 outside a linear one.
M5_DEVICE std::int64_t wrap(const Piece& piece, std::int64_t position) {
  if (position >= 0 && position < piece.length) return position;
  if (!piece.circular) return -1;
  position %= piece.length;
  return position < 0 ? position + piece.length : position;
}

// grid: pieces, blocks of 128 columns. A warp a row.
template <class E>
M5_KERNEL M5_BOUNDS(kThreads, 4)
    embed_kernel(const Piece* pieces, std::int64_t first_row, int dim, int window,
                 const Token* tokens, const float* table, const float* bias, E* x) {
  const Piece& piece = pieces[blockIdx.x];
  const int column = first_column();
  if (column >= dim) return;
  float b[4];
  load4(bias + column, b);
  table += column;
  for (int row = warp(); row < piece.rows; row += kWarps) {
    const Token* around = tokens + piece.window + row;
    float sum[4] = {b[0], b[1], b[2], b[3]};
#pragma unroll 8
    for (int j = 0; j <= 2 * window; ++j) {
      const int token = around[j];
      if (token == kTokenPad) continue;
      float v[4];
      load4(table + (std::int64_t{j} * kTokenKinds + token) * dim, v);
#pragma unroll
      for (int i = 0; i < 4; ++i) sum[i] += v[i];
    }
    store4(x + (piece.row - first_row + row) * dim + column, sum);
  }
}

// A thread has 4 columns of a row at a time.
template <class E>
M5_KERNEL M5_BOUNDS(kThreads, 4)
    one_hot_kernel(const Piece* pieces, std::int64_t first_row, int columns, int window,
                   const Token* tokens, E* values) {
  const Piece& piece = pieces[blockIdx.x];
  const int bias = (2 * window + 1) * kTokenKinds, quads = columns / 4;
  for (int e = static_cast<int>(threadIdx.x); e < piece.rows * quads; e += kThreads) {
    const int row = e / quads, column = e % quads * 4;
    float v[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int at = column + i;
      bool hit = at == bias;
      if (at < bias) {
        const int token = tokens[piece.window + row + at / kTokenKinds];
        hit = token == at % kTokenKinds && token != kTokenPad;
      }
      v[i] = hit ? 1.0f : 0.0f;
    }
    store4(values + (piece.row - first_row + row) * columns + column, v);
  }
}

// grid: pieces, blocks of 128 columns. A lane has 4 columns of every 8th row.
template <class E>
M5_KERNEL M5_BOUNDS(kThreads, 4) convolve_kernel(const Piece* pieces, Convolution conv, const E* x,
                                                 const float* inverse, E* out) {
  const Piece& piece = pieces[blockIdx.x];
  const int column = first_column();
  if (column >= conv.dim) return;
  float gain[4];
  load4(conv.gain + column, gain);
  const std::int64_t offset = piece.row - piece.sequence_row;
  for (int row = warp(); row < piece.rows; row += kWarps) {
    float sum[4] = {};
    for (int j = 0; j < conv.width; ++j) {
      const std::int64_t position =
          wrap(piece, offset + row + std::int64_t{j - (conv.width - 1) / 2} * conv.dilation);
      if (position < 0) continue;
      const std::int64_t at = piece.sequence_row + position;
      const float r = inverse[at];
      float v[4], w[4];
      load4(x + at * conv.dim + column, v);
      load4(conv.weight + j * conv.dim + column, w);
#pragma unroll
      for (int i = 0; i < 4; ++i) sum[i] = fmaf(w[i], v[i] * r * gain[i], sum[i]);
    }
    float v[4];
    const std::int64_t at = (piece.row + row) * conv.dim + column;
    load4(x + at, v);
#pragma unroll
    for (int i = 0; i < 4; ++i) v[i] += sum[i];
    store4(out + at, v);
  }
}

template <class E>
M5_KERNEL M5_BOUNDS(kThreads, 4)
    convolve_backward_kernel(const Piece* pieces, std::int64_t first_row, Convolution conv,
                             const E* dy, E* dh) {
  const Piece& piece = pieces[blockIdx.x];
  const int column = first_column();
  if (column >= conv.dim) return;
  const std::int64_t offset = piece.row - piece.sequence_row;
  for (int row = warp(); row < piece.rows; row += kWarps) {
    float sum[4] = {};
    for (int j = 0; j < conv.width; ++j) {
      const std::int64_t position =
          wrap(piece, offset + row - std::int64_t{j - (conv.width - 1) / 2} * conv.dilation);
      if (position < 0) continue;
      float v[4], w[4];
      load4(dy + (piece.sequence_row + position) * conv.dim + column, v);
      load4(conv.weight + j * conv.dim + column, w);
#pragma unroll
      for (int i = 0; i < 4; ++i) sum[i] = fmaf(w[i], v[i], sum[i]);
    }
    store4(dh + (piece.row - first_row + row) * conv.dim + column, sum);
  }
}

// grid: pieces, blocks of 128 columns, taps.
template <class E>
M5_KERNEL M5_BOUNDS(kThreads, 4)
    convolve_backward_weight_kernel(const Piece* pieces, Convolution conv, const E* x,
                                    const float* inverse, const E* dy, float* partial) {
  float* shared = shared_memory<float>();  // [warps][128]
  const Piece& piece = pieces[blockIdx.x];
  const int column = first_column(), j = static_cast<int>(blockIdx.z);
  const std::int64_t offset = piece.row - piece.sequence_row;
  float sum[4] = {};
  if (column < conv.dim) {
    float gain[4];
    load4(conv.gain + column, gain);
    for (int row = warp(); row < piece.rows; row += kWarps) {
      const std::int64_t position =
          wrap(piece, offset + row + std::int64_t{j - (conv.width - 1) / 2} * conv.dilation);
      if (position < 0) continue;
      const std::int64_t at = piece.sequence_row + position;
      const float r = inverse[at];
      float v[4], d[4];
      load4(x + at * conv.dim + column, v);
      load4(dy + (piece.row + row) * conv.dim + column, d);
#pragma unroll
      for (int i = 0; i < 4; ++i) sum[i] = fmaf(d[i], v[i] * r * gain[i], sum[i]);
    }
  }
  store4(shared + static_cast<int>(threadIdx.x) * 4, sum);
  __syncthreads();
  const int c = static_cast<int>(threadIdx.x);
  const int to = static_cast<int>(blockIdx.y) * kBlockColumns + c;
  if (c >= kBlockColumns || to >= conv.dim) return;
  float total = 0;
  for (int w = 0; w < kWarps; ++w) total += shared[w * kBlockColumns + c];
  partial[(std::int64_t{blockIdx.x} * conv.width + j) * conv.dim + to] = total;
}

dim3 grid_of(const Pieces& pieces, int dim, int taps = 1) {
  return dim3(static_cast<unsigned>(pieces.count),
              static_cast<unsigned>(ceil_div(dim, kBlockColumns)), static_cast<unsigned>(taps));
}

}  // namespace

template <class E>
void embed(Device& device, const Pieces& p, int dim, int window, const Token* tokens,
           const float* table, const float* bias, E* x) {
  device.launch("embed", embed_kernel<E>, grid_of(p, dim), kThreads, 0, p.pieces, p.first_row, dim,
                window, tokens, table, bias, x);
}

template <class E>
void one_hot(Device& device, const Pieces& p, int window, const Token* tokens, E* values) {
  device.launch("one_hot", one_hot_kernel<E>, static_cast<unsigned>(p.count), kThreads, 0, p.pieces,
                p.first_row, one_hot_columns(window), window, tokens, values);
}

template <class E>
void convolve(Device& device, const Pieces& p, const Convolution& conv, const E* x,
              const float* inverse, E* out) {
  device.launch("convolve", convolve_kernel<E>, grid_of(p, conv.dim), kThreads, 0, p.pieces, conv,
                x, inverse, out);
}

template <class E>
void convolve_backward(Device& device, const Pieces& p, const Convolution& conv, const E* dy,
                       E* dh) {
  device.launch("convolve_backward", convolve_backward_kernel<E>, grid_of(p, conv.dim), kThreads, 0,
                p.pieces, p.first_row, conv, dy, dh);
}

template <class E>
void convolve_backward_weight(Device& device, const Pieces& p, const Convolution& conv, const E* x,
                              const float* inverse, const E* dy, float* partial) {
  device.launch("convolve_backward_weight", convolve_backward_weight_kernel<E>,
                grid_of(p, conv.dim, conv.width), kThreads, kThreads * 4 * sizeof(float), p.pieces,
                conv, x, inverse, dy, partial);
}

#define M5_INSTANTIATE(E)                                                                         \
  template void embed<E>(Device&, const Pieces&, int, int, const Token*, const float*,            \
                         const float*, E*);                                                       \
  template void one_hot<E>(Device&, const Pieces&, int, const Token*, E*);                        \
  template void convolve<E>(Device&, const Pieces&, const Convolution&, const E*, const float*,   \
                            E*);                                                                  \
  template void convolve_backward<E>(Device&, const Pieces&, const Convolution&, const E*, E*);   \
  template void convolve_backward_weight<E>(Device&, const Pieces&, const Convolution&, const E*, \
                                            const float*, const E*, float*);
M5_INSTANTIATE(float)
M5_INSTANTIATE(bf16)
#undef M5_INSTANTIATE

}  // namespace m5::kernels::cuda
