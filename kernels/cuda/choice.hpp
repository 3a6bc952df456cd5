// What the algorithms of a product are tried on and compared by (products.cu).
#pragma once

#include <cstdint>

#include "kernels/cuda/device.hpp"

namespace m5::kernels::cuda {

// Words that are pairs of bf16 in [-1, 1], others for another seed.
void random_pairs(Device& device, std::int64_t words, unsigned seed, unsigned* to);
// *differ = 1 where a word of x is not that of y; else it stays as it is.
void compare_words(Device& device, std::int64_t words, const unsigned* x, const unsigned* y,
                   int* differ);

}  // namespace m5::kernels::cuda
