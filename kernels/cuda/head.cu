// Final norm, head, log softmax, and their gradients: a warp a row.
#include "kernels/cuda/formulas.hpp"
#include "kernels/cuda/rows.hpp"

namespace m5::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarp;
constexpr int kClasses = 4;
static_assert(kSumRows / kWarps <= kChainRows, "a chain of fp32 sums would be longer");

M5_DEVICE int lane() { return static_cast<int>(threadIdx.x) % kWarp; }
M5_DEVICE int warp() { return static_cast<int>(threadIdx.x) / kWarp; }

template <class E>
M5_KERNEL M5_BOUNDS(kThreads, 3)
    head_kernel(HeadParameters p, std::int64_t n, const E* x, float* log_probs, float* inverse) {
  const std::int64_t row = std::int64_t{blockIdx.x} * kWarps + warp();
  if (row >= n) return;
  x += row * p.dim;
  float square = 0, logit[kClasses] = {};
  for (int c = lane() * 4; c < p.dim; c += kWarp * 4) {
    float v[4], g[4];
    load4(x + c, v);
    load4(p.gain + c, g);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      square = fmaf(v[i], v[i], square);
      g[i] *= v[i];
    }
#pragma unroll
    for (int b = 0; b < kClasses; ++b) {
      float w[4];
      load4(p.weight + b * p.dim + c, w);
#pragma unroll
      for (int i = 0; i < 4; ++i) logit[b] = fmaf(w[i], g[i], logit[b]);
    }
  }
  square = warp_sum(square);
  const float r = inverse_root(square, p.dim, p.epsilon);
  float greatest = -INFINITY, sum = 0;
#pragma unroll
  for (int b = 0; b < kClasses; ++b) {
    logit[b] = warp_sum(logit[b]) * r + p.bias[b];
    greatest = fmaxf(greatest, logit[b]);
  }
#pragma unroll
  for (int b = 0; b < kClasses; ++b) sum += expf(logit[b] - greatest);
  if (lane() != 0) return;
#pragma unroll
  for (int b = 0; b < kClasses; ++b) logit[b] = logit[b] - greatest - logf(sum);
  store4(log_probs + row * kClasses, logit);
  if (inverse) inverse[row] = r;
}

// dn_c = sum_b d_b W_bc, dx_c = r g_c dn_c - x_c r^3 / d sum_k g_k dn_k x_k
template <class E>
M5_KERNEL M5_BOUNDS(kThreads, 4)
    head_backward_kernel(HeadParameters p, std::int64_t n, const E* x, const float* inverse,
                         const float* d_logits, E* dx) {
  const std::int64_t row = std::int64_t{blockIdx.x} * kWarps + warp();
  if (row >= n) return;
  x += row * p.dim;
  dx += row * p.dim;
  const float r = inverse[row];
  float d[4], dot = 0;
  load4(d_logits + row * kClasses, d);
  for (int pass = 0; pass < 2; ++pass) {
    if (pass == 1) dot = warp_sum(dot) * r * r * r / static_cast<float>(p.dim);
    for (int c = lane() * 4; c < p.dim; c += kWarp * 4) {
      float v[4], g[4], dn[4] = {};
      load4(x + c, v);
      load4(p.gain + c, g);
#pragma unroll
      for (int b = 0; b < kClasses; ++b) {
        float w[4];
        load4(p.weight + b * p.dim + c, w);
#pragma unroll
        for (int i = 0; i < 4; ++i) dn[i] = fmaf(d[b], w[i], dn[i]);
      }
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        dn[i] *= g[i];
        if (pass == 0) {
          dot = fmaf(dn[i], v[i], dot);
        } else {
          dn[i] = r * dn[i] - v[i] * dot;
        }
      }
      if (pass == 1) store4(dx + c, dn);
    }
  }
}

// grid: blocks of 128 columns, parts. partial[part][b][c] = sum d_b x_c r
template <class E>
M5_KERNEL M5_BOUNDS(kThreads, 4)
    head_sums_kernel(int dim, std::int64_t n, const E* x, const float* inverse,
                     const float* d_logits, float* partial) {
  float* shared = shared_memory<float>();  // [warps][4][128]
  const int column = static_cast<int>(blockIdx.x) * kWarp * 4 + lane() * 4;
  const std::int64_t first = std::int64_t{blockIdx.y} * kSumRows;
  const std::int64_t end = first + kSumRows < n ? first + kSumRows : n;
  float sum[kClasses][4] = {};
  if (column < dim) {
    for (std::int64_t row = first + warp(); row < end; row += kWarps) {
      float v[4], d[4];
      load4(x + row * dim + column, v);
      load4(d_logits + row * kClasses, d);
      const float r = inverse[row];
#pragma unroll
      for (int b = 0; b < kClasses; ++b) {
#pragma unroll
        for (int i = 0; i < 4; ++i) sum[b][i] = fmaf(d[b] * r, v[i], sum[b][i]);
      }
    }
  }
#pragma unroll
  for (int b = 0; b < kClasses; ++b) {
    store4(shared + (warp() * kClasses + b) * kWarp * 4 + lane() * 4, sum[b]);
  }
  __syncthreads();
  for (int e = static_cast<int>(threadIdx.x); e < kClasses * kWarp * 4; e += kThreads) {
    const int c = static_cast<int>(blockIdx.x) * kWarp * 4 + e % (kWarp * 4);
    if (c >= dim) continue;
    float total = 0;
    for (int w = 0; w < kWarps; ++w) total += shared[w * kClasses * kWarp * 4 + e];
    partial[(std::int64_t{blockIdx.y} * kClasses + e / (kWarp * 4)) * dim + c] = total;
  }
}

M5_KERNEL head_gradients_kernel(HeadParameters p, const double* t, double* d_weight,
                                double* d_gain) {
  const int c = static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x);
  if (c >= p.dim) return;
  double gain = d_gain[c];
#pragma unroll
  for (int b = 0; b < kClasses; ++b) {
    const double v = t[b * p.dim + c];
    d_weight[b * p.dim + c] += static_cast<double>(p.gain[c]) * v;
    gain += static_cast<double>(p.weight[b * p.dim + c]) * v;
  }
  d_gain[c] = gain;
}

}  // namespace

template <class E>
void head(Device& device, const HeadParameters& p, std::int64_t n, const E* x, float* log_probs,
          float* inverse) {
  device.launch("head", head_kernel<E>, static_cast<unsigned>(ceil_div(n, kWarps)), kThreads, 0, p,
                n, x, log_probs, inverse);
}

template <class E>
void head_backward(Device& device, const HeadParameters& p, std::int64_t n, const E* x,
                   const float* inverse, const float* d_logits, E* dx, float* partial) {
  device.launch("head_backward", head_backward_kernel<E>,
                static_cast<unsigned>(ceil_div(n, kWarps)), kThreads, 0, p, n, x, inverse, d_logits,
                dx);
  const dim3 grid(static_cast<unsigned>(ceil_div(p.dim, kWarp * 4)),
                  static_cast<unsigned>(sum_parts(n)));
  device.launch("head_sums", head_sums_kernel<E>, grid, kThreads,
                kWarps * kClasses * kWarp * 4 * sizeof(float), p.dim, n, x, inverse, d_logits,
                partial);
}

void head_gradients(Device& device, const HeadParameters& p, const double* t, double* d_weight,
                    double* d_gain) {
  device.launch("head_gradients", head_gradients_kernel,
                static_cast<unsigned>(ceil_div(p.dim, kThreads)), kThreads, 0, p, t, d_weight,
                d_gain);
}

#define M5_INSTANTIATE(E)                                                                        \
  template void head<E>(Device&, const HeadParameters&, std::int64_t, const E*, float*, float*); \
  template void head_backward<E>(Device&, const HeadParameters&, std::int64_t, const E*,         \
                                 const float*, const float*, E*, float*);
M5_INSTANTIATE(float)
M5_INSTANTIATE(bf16)
#undef M5_INSTANTIATE

}  // namespace m5::kernels::cuda
