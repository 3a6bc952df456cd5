// Times of the kernels that have no product by cuBLAS: the attention's on tensor cores, embedding,
// norms. Each beside its own floor.
#pragma once

#include "kernels/cuda/device.hpp"
#include "table.hpp"

namespace m5::kernels::cuda {

// Prints a table, and gives accumulate and query their rows of the other one. rate: operations a
// second by cuBLAS; copy: bytes a second, read and written.
void attention_times(Device& device, double rate, double copy, Table& rows);

}  // namespace m5::kernels::cuda
