// Times of the kernels of kernels/cuda/fused.hpp beside those that they stand for, of a chunk of
// rows.
#pragma once

#include "kernels/cuda/device.hpp"

namespace m5::kernels::cuda {

// Prints a table. rate: operations a second by cuBLAS; copy: bytes a second, read and written.
void fused_times(Device& device, double rate, double copy, bool measured_products);

}  // namespace m5::kernels::cuda
