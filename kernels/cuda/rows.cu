#include "kernels/cuda/rows.hpp"

#include "kernels/cuda/formulas.hpp"

namespace m5::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarp;
static_assert(kSumRows / kWarps <= kChainRows, "a chain of fp32 sums would be longer");

M5_DEVICE int lane() { return static_cast<int>(threadIdx.x) % kWarp; }
M5_DEVICE int warp() { return static_cast<int>(threadIdx.x) / kWarp; }

template <class E>
M5_KERNEL gelu_kernel(std::int64_t quads, int columns, const E* x, const E* bias, E* keep, E* y) {
  const std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= quads) return;
  float v[4];
  load4(x + i * 4, v);
  if (bias) {
    float b[4];
    load4(bias + i * 4 % columns, b);
#pragma unroll
    for (int k = 0; k < 4; ++k) v[k] += b[k];
  }
  if (keep) store4(keep + i * 4, v);
#pragma unroll
  for (int k = 0; k < 4; ++k) v[k] = gelu_value(v[k]);
  store4(y + i * 4, v);
}

template <class E>
M5_KERNEL gelu_backward_kernel(std::int64_t quads, const E* x, const E* dy, E* dx) {
  const std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= quads) return;
  float v[4], d[4];
  load4(x + i * 4, v);
  load4(dy + i * 4, d);
#pragma unroll
  for (int k = 0; k < 4; ++k) d[k] *= gelu_slope(v[k]);
  store4(dx + i * 4, d);
}

template <class E>
M5_KERNEL add_bias_kernel(std::int64_t quads, int columns, const E* x, const E* bias, E* y) {
  const std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= quads) return;
  float v[4], b[4];
  load4(x + i * 4, v);
  load4(bias + i * 4 % columns, b);
#pragma unroll
  for (int k = 0; k < 4; ++k) v[k] += b[k];
  store4(y + i * 4, v);
}

// grid: blocks of 128 columns, parts. A lane has 4 columns of every 8th row.
template <class E>
M5_KERNEL M5_BOUNDS(kThreads, 4)
    column_sums_kernel(std::int64_t n, int columns, const E* x, float* partial) {
  float* shared = shared_memory<float>();  // [warps][128]
  const int column = static_cast<int>(blockIdx.x) * kWarp * 4 + lane() * 4;
  const std::int64_t first = std::int64_t{blockIdx.y} * kSumRows;
  const std::int64_t end = first + kSumRows < n ? first + kSumRows : n;
  float sum[4] = {};
  if (column < columns) {
#pragma unroll 4
    for (std::int64_t row = first + warp(); row < end; row += kWarps) {
      float v[4];
      load4(x + row * columns + column, v);
#pragma unroll
      for (int i = 0; i < 4; ++i) sum[i] += v[i];
    }
  }
  store4(shared + static_cast<int>(threadIdx.x) * 4, sum);
  __syncthreads();
  const int c = static_cast<int>(threadIdx.x);
  if (c >= kWarp * 4 || static_cast<int>(blockIdx.x) * kWarp * 4 + c >= columns) return;
  float total = 0;
  for (int w = 0; w < kWarps; ++w) total += shared[w * kWarp * 4 + c];
  partial[std::int64_t{blockIdx.y} * columns + blockIdx.x * (kWarp * 4) + c] = total;
}

// A block has kFew columns; kSlices threads each add some of the parts, which are added in order.
constexpr int kFew = 32, kSlices = 16;
M5_KERNEL M5_BOUNDS(kFew* kSlices, 1)
    add_parts_kernel(std::int64_t parts, std::int64_t count, const float* partial, double* sum) {
  double* shared = shared_memory<double>();
  const int thread = static_cast<int>(threadIdx.x), slice = thread / kFew;
  const std::int64_t i = std::int64_t{blockIdx.x} * kFew + thread % kFew;
  const std::int64_t each = (parts + kSlices - 1) / kSlices;
  const std::int64_t end = (slice + 1) * each < parts ? (slice + 1) * each : parts;
  double total = 0;
  if (i < count) {
#pragma unroll 8
    for (std::int64_t p = slice * each; p < end; ++p) {
      total += static_cast<double>(partial[p * count + i]);
    }
  }
  shared[thread] = total;
  __syncthreads();
  if (slice > 0 || i >= count) return;
  total = 0;
  for (int s = 0; s < kSlices; ++s) total += shared[s * kFew + thread];
  sum[i] += total;
}

template <class E>
M5_KERNEL gather_kernel(std::int64_t n, int dim, const std::int64_t* rows, const E* x, E* y,
                        int scattered) {
  const std::int64_t row = std::int64_t{blockIdx.x} * kWarps + warp();
  if (row >= n) return;
  const E* from = x + (scattered ? row : rows[row]) * dim;
  E* to = y + (scattered ? rows[row] : row) * dim;
  for (int c = lane() * 4; c < dim; c += kWarp * 4) {
    *reinterpret_cast<Four<E>*>(to + c) = *reinterpret_cast<const Four<E>*>(from + c);
  }
}

unsigned blocks(std::int64_t threads) { return static_cast<unsigned>(ceil_div(threads, kThreads)); }
unsigned row_blocks(std::int64_t n) { return static_cast<unsigned>(ceil_div(n, kWarps)); }

}  // namespace

template <class E>
void gelu(Device& device, std::int64_t n, int columns, const E* x, const E* bias, E* keep, E* y) {
  const std::int64_t quads = n * columns / 4;
  device.launch("gelu", gelu_kernel<E>, blocks(quads), kThreads, 0, quads, columns, x, bias, keep,
                y);
}

template <class E>
void gelu_backward(Device& device, std::int64_t count, const E* x, const E* dy, E* dx) {
  device.launch("gelu_backward", gelu_backward_kernel<E>, blocks(count / 4), kThreads, 0, count / 4,
                x, dy, dx);
}

template <class E>
void add_bias(Device& device, std::int64_t n, int columns, const E* x, const E* bias, E* y) {
  const std::int64_t quads = n * columns / 4;
  device.launch("add_bias", add_bias_kernel<E>, blocks(quads), kThreads, 0, quads, columns, x, bias,
                y);
}

template <class E>
void column_sums(Device& device, std::int64_t n, int columns, const E* x, float* partial) {
  const dim3 grid(static_cast<unsigned>(ceil_div(columns, kWarp * 4)),
                  static_cast<unsigned>(sum_parts(n)));
  device.launch("column_sums", column_sums_kernel<E>, grid, kThreads, kThreads * 4 * sizeof(float),
                n, columns, x, partial);
}

void add_parts(Device& device, std::int64_t parts, std::int64_t count, const float* partial,
               double* sum) {
  device.launch("add_parts", add_parts_kernel, static_cast<unsigned>(ceil_div(count, kFew)),
                kFew * kSlices, kFew * kSlices * sizeof(double), parts, count, partial, sum);
}

template <class E>
void gather(Device& device, std::int64_t n, int dim, const std::int64_t* rows, const E* x, E* y) {
  device.launch("gather", gather_kernel<E>, row_blocks(n), kThreads, 0, n, dim, rows, x, y, 0);
}

template <class E>
void scatter(Device& device, std::int64_t n, int dim, const std::int64_t* rows, const E* x, E* y) {
  device.launch("gather", gather_kernel<E>, row_blocks(n), kThreads, 0, n, dim, rows, x, y, 1);
}

#define M5_INSTANTIATE(E)                                                                 \
  template void gelu<E>(Device&, std::int64_t, int, const E*, const E*, E*, E*);          \
  template void gelu_backward<E>(Device&, std::int64_t, const E*, const E*, E*);          \
  template void add_bias<E>(Device&, std::int64_t, int, const E*, const E*, E*);          \
  template void column_sums<E>(Device&, std::int64_t, int, const E*, float*);             \
  template void gather<E>(Device&, std::int64_t, int, const std::int64_t*, const E*, E*); \
  template void scatter<E>(Device&, std::int64_t, int, const std::int64_t*, const E*, E*);
M5_INSTANTIATE(float)
M5_INSTANTIATE(bf16)
#undef M5_INSTANTIATE

}  // namespace m5::kernels::cuda
