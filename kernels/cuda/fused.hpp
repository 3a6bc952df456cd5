// Parts of a layer as one kernel each, on tensor cores, in bf16 and for up to 512 columns, for
// forward sweeps, those of training too: what lies between their products stays in registers.
#pragma once

#include "kernels/cuda/device.hpp"

namespace m5::kernels::cuda {

// Whether there are kernels of these widths.
inline bool fuses_layers(int dim, int ff) {
  return (dim == 64 || dim == 128 || dim == 256) && ff > 0 && ff % 32 == 0;
}

// All pointers are aligned to 16 bytes. What separate kernels would store is rounded to bf16.

// out[n][columns] = W norm(x), twice; columns: a multiple of 32, or 0.
struct NormProduct {
  int dim = 0;
  float epsilon = 0;
  const float* gain = nullptr;  // [d]
  struct Product {
    const bf16* weight = nullptr;  // W [columns][d]
    int columns = 0;
    bf16* out = nullptr;
  };
  Product first, second;
};
void norm_product(Device& device, std::int64_t n, const NormProduct& p, const bf16* x);

struct FeedForward {
  int dim = 0, ff = 0;
  float epsilon = 0;
  const bf16* output = nullptr;       // W_o [d][d], where there is an o
  const bf16* output_bias = nullptr;  // b_o [d]
  const float* gain = nullptr;        // [d]
  const bf16* up = nullptr;           // W_1 [ff][d]
  const bf16* up_bias = nullptr;      // b_1 [ff]
  const bf16* down = nullptr;         // W_2 [d][ff]
  const bf16* down_bias = nullptr;    // b_2 [d]
  bool warpgroups = false;            // by the products of warpgroups, if takes_warpgroups
};
// Whether there is a kernel of these widths by the products of warpgroups, for this GPU.
inline bool takes_warpgroups(const Device& device, int dim, int ff) {
  return device.warpgroups() && (dim == 128 || dim == 256) && ff > 0 && ff % 64 == 0;
}
// out[n][d] = y + W_2 gelu(W_1 norm(y) + b_1) + b_2, y = x + W_o o + b_o, or x where o is null; out
// may be x.
void feed_forward(Device& device, std::int64_t n, const FeedForward& p, const bf16* o,
                  const bf16* x, bf16* out);
// The two kernels behind it.
void feed_forward_by_warps(Device& device, std::int64_t n, const FeedForward& p, const bf16* o,
                           const bf16* x, bf16* out);
void feed_forward_by_warpgroups(Device& device, std::int64_t n, const FeedForward& p, const bf16* o,
                                const bf16* x, bf16* out);
// Whether both give the same of random numbers, but for roundings, and that by warpgroups the same
// bits each time; false where there is one alone.
bool warpgroups_agree(Device& device, int dim, int ff, std::int64_t rows);

// A norm, the product behind it and gelu, by the products of warpgroups.
struct NormGelu {
  int columns = 0;
  float epsilon = 0;
  const float* gain = nullptr;   // [d]
  const bf16* weight = nullptr;  // W [columns][d]
  const bf16* bias = nullptr;    // b [columns]
};
// Whether there is such a kernel of these widths for this GPU: 512, and a multiple of 64.
bool takes_norm_gelu(const Device& device, int dim, int columns);
// out[n][columns] = gelu(W norm(x) + b)
// d is 512.
void norm_gelu(Device& device, std::int64_t n, const NormGelu& p, const bf16* x, bf16* out);
// Whether it gives what the formula does, for each row the same bits wherever it lies, each time;
// false where there is none.
bool norm_gelu_agrees(Device& device, int dim, int columns, std::int64_t rows);

}  // namespace m5::kernels::cuda
