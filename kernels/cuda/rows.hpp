// Kernels on rows that know nothing of sequences: norms, gelu, sums over rows, the head. Formulas:
// kernels/backend.hpp. E: float or bf16; sums in fp32, but where they are said to be double.
#pragma once

#include "kernels/cuda/device.hpp"

namespace m5::kernels::cuda {

// Rows whose sums over rows are one partial sum, by chains of at most kChainRows in fp32 and sums
// of up to 8 of those.
inline constexpr int kSumRows = 512, kChainRows = 128;
inline std::int64_t sum_parts(std::int64_t rows) { return ceil_div(rows, kSumRows); }

// y = x gain / sqrt(mean(x^2) + epsilon); y null: only inverse[n], the inverse roots (may be null).
template <class E>
void norm(Device& device, std::int64_t n, int dim, float epsilon, const E* x, const float* gain,
          E* y, float* inverse);

// dx_out = dx_in + (d norm / d x)^T dh (dx_in null: 0; they may be the same), and sums over the
// rows of a part, [parts][dim] each: of the gain's gradient, and, both or none of them, of dx_in
// and of dx_out.
struct NormSums {
  float* gain = nullptr;
  float* before = nullptr;
  float* after = nullptr;
};
template <class E>
void norm_backward(Device& device, std::int64_t n, int dim, float epsilon, const E* x,
                   const float* gain, const E* dh, const E* dx_in, E* dx_out, const NormSums& sums);

// y = gelu(x + bias), keep = x + bias (bias and keep may be null; y may be x).
template <class E>
void gelu(Device& device, std::int64_t n, int columns, const E* x, const E* bias, E* keep, E* y);
// dx = gelu'(x) dy. dx may be dy.
template <class E>
void gelu_backward(Device& device, std::int64_t count, const E* x, const E* dy, E* dx);
// y = x + bias (y may be x).
template <class E>
void add_bias(Device& device, std::int64_t n, int columns, const E* x, const E* bias, E* y);
// partial[part][columns] = sums of rows.
template <class E>
void column_sums(Device& device, std::int64_t n, int columns, const E* x, float* partial);
// sum[i] += the partial sums in order.
void add_parts(Device& device, std::int64_t parts, std::int64_t count, const float* partial,
               double* sum);

// y[i] = x[rows[i]], and the other way round.
template <class E>
void gather(Device& device, std::int64_t n, int dim, const std::int64_t* rows, const E* x, E* y);
template <class E>
void scatter(Device& device, std::int64_t n, int dim, const std::int64_t* rows, const E* x, E* y);

// --- final norm, head and log softmax (head.cu)
struct HeadParameters {
  int dim = 0;
  float epsilon = 0;
  const float* gain = nullptr;    // [d]
  const float* weight = nullptr;  // [4][d]
  const float* bias = nullptr;    // [4]
};
// log_probs[n][4] fp32, inverse[n] the inverse roots (may be null).
template <class E>
void head(Device& device, const HeadParameters& p, std::int64_t n, const E* x, float* log_probs,
          float* inverse);
// From d_logits[n][4]: dx; partial[part][4][d] = sums of d_logits x inverse.
template <class E>
void head_backward(Device& device, const HeadParameters& p, std::int64_t n, const E* x,
                   const float* inverse, const float* d_logits, E* dx, float* partial);
// From the total t[4][d] of those: d_weight and d_gain +=.
void head_gradients(Device& device, const HeadParameters& p, const double* t, double* d_weight,
                    double* d_gain);

}  // namespace m5::kernels::cuda
