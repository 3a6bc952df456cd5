// The SIMD kernels of the cpu backend, one entry point each; the best instruction set of the
// machine is chosen at run time (Highway), or the one M5_CPU_ISA names. Plain pointers only.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/backend.hpp"

namespace m5::kernels::simd {

// Monomials of degree <= p as products of two of degree <= p/2: m_f = t[left[f]] * t[right[f]].
struct ProductTable {
  int half_features = 0;              // entries of t
  std::vector<int> parent, variable;  // of t's entries, as in Monomial
  std::vector<int> left, right;       // of the features
};
const ProductTable& product_table(int order);

// A worker's private memory for the attention kernels.
class Scratch {
 public:
  // At least `count` floats, aligned to 64 bytes; contents undefined.
  float* floats(std::size_t count);

 private:
  std::vector<float> data_;
};

// attention.cpp; z [n][z_stride]; u, out [n][stride]; all columns [component][head].
// state[f][c][h] += sum_i m_f(z_i) u_i[c]; unit: an extra last column of ones.
void accumulate(Scratch& scratch, const AttentionShape& shape, int n, const float* z,
                std::int64_t z_stride, const float* u, std::int64_t u_stride, bool unit,
                double* state);
// out_i[c] = sum_f m_f(z_i) state[f][c] for c < columns; out_stride >= columns * H.
void apply(Scratch& scratch, const AttentionShape& shape, int n, const float* z,
           std::int64_t z_stride, const float* state, int columns, float* out,
           std::int64_t out_stride);
// attention_backward.cpp.
// dz_i = d/dz sum_f m_f(z_i) (sum_c state[f][c] u_i[c]); unit as above.
void pull_back(Scratch& scratch, const AttentionShape& shape, int n, const float* z,
               std::int64_t z_stride, const float* state, const float* u, std::int64_t u_stride,
               bool unit, float* dz, std::int64_t dz_stride);
// attention_rows.cpp.
// o = u[c] / u[dv], weight = u[dv]; u [n][(dv+1) H].
void divide(const AttentionShape& shape, int n, const float* u, float* o, float* weight);
// du[c] = d_o[c] / weight; du[dv] = -sum_c d_o[c] o[c] / weight.
void divide_backward(const AttentionShape& shape, int n, const float* o, const float* weight,
                     const float* d_o, float* du);
void bound(const AttentionShape& shape, int n, std::int64_t stride, const float* z, float* bounded);
void bound_backward(const AttentionShape& shape, int n, std::int64_t stride, const float* z,
                    const float* d_bounded, float* dz);

// rows.cpp; formulas in backend.hpp.
void embed(int n, int dim, int w, const std::uint8_t* window, const float* table, const float* bias,
           float* x);
void embed_backward(int n, int dim, int w, const std::uint8_t* window, const float* dx,
                    float* d_table, float* d_bias);
void norm(int n, int dim, float epsilon, const float* x, const float* gain, float* y);
void norm_backward(int n, int dim, float epsilon, const float* x, const float* gain,
                   const float* dy, float* dx, float* d_gain);
void gelu(std::int64_t count, const float* x, float* y);
void gelu_backward(std::int64_t count, const float* x, const float* dy, float* dx);
void local_conv(int n, int dim, int width, int dilation, const float* window, const float* weight,
                bool flip, float* y);
void local_conv_backward_weight(int n, int dim, int width, int dilation, const float* window,
                                const float* dy, float* d_weight);
void add_column_sums(int n, int dim, const float* x, float* sums);
void head(int n, int dim, const float* h, const float* weight, const float* bias, float* log_probs);
void head_backward(int n, int dim, const float* h, const float* weight, const float* d_logits,
                   float* dh, float* d_weight, float* d_bias);

// isa.cpp. Names as Highway's: SSE2, AVX2, AVX3, NEON ...
std::string chosen_isa();
std::vector<std::string> available_isas();
// Throws Error(kUsage) naming the available ones when this machine or build lacks it.
void force_isa(const std::string& name);

}  // namespace m5::kernels::simd
