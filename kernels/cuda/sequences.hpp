// Kernels that read neighbouring rows: the embedding and the local convolution. Formulas:
// kernels/backend.hpp.
#pragma once

#include "kernels/cuda/attention.hpp"
#include "kernels/cuda/batch.hpp"
#include "kernels/cuda/device.hpp"

namespace m5::kernels::cuda {

// x[n][d] of the rows of the pieces: bias + the table's rows of the tokens around. table
// [2w+1][7][d].
template <class E>
void embed(Device& device, const Pieces& pieces, int dim, int window, const Token* tokens,
           const float* table, const float* bias, E* x);
// The same from a rounded table, on tensor cores; false where nothing was done: a width that is no
// multiple of 64, a window that does not fit.
bool embed_mma(Device& device, const Pieces& pieces, int dim, int window, const Token* tokens,
               const bf16* table, const float* bias, bf16* x);
// one_hot[n][columns]: 1 at j * 7 + token of the tap j (no PAD) and at (2w+1) * 7, where the bias
// follows the table. The gradient of both is one_hot^T dx.
inline int one_hot_columns(int window) {
  return static_cast<int>(round_up((2 * window + 1) * 7 + 1, 8));
}
template <class E>
void one_hot(Device& device, const Pieces& pieces, int window, const Token* tokens, E* values);

struct Convolution {
  int dim = 0, width = 0, dilation = 1;
  const float* gain = nullptr;    // [d]
  const float* weight = nullptr;  // [width][d]
};
// All arrays but dh are of the whole batch: neighbours may lie in other chunks.
// out = x + conv(norm(x)), inverse[n] the inverse roots of x.
template <class E>
void convolve(Device& device, const Pieces& pieces, const Convolution& conv, const E* x,
              const float* inverse, E* out);
// dh[rows of the chunk] = conv^T dy.
template <class E>
void convolve_backward(Device& device, const Pieces& pieces, const Convolution& conv, const E* dy,
                       E* dh);
// partial[piece][width][d] = the gradient of the weights.
template <class E>
void convolve_backward_weight(Device& device, const Pieces& pieces, const Convolution& conv,
                              const E* x, const float* inverse, const E* dy, float* partial);

}  // namespace m5::kernels::cuda
