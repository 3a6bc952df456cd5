// Every kernel of the CUDA device against the `ref` backend in double: on the case table, and on
// cases of their own what that does not have. Run on the emulation by the tests and on a GPU by
// tests/perf/gpu_check.cu.
#pragma once

#include <vector>

#include "check.hpp"
#include "kernels/cuda/device.hpp"

namespace m5::kernels::cuda {

std::vector<Check> kernel_checks(Device& device);
// Those of the attention among them, of products, of the update of the parameters, of fused
// kernels, and of how the parameters lie.
void attention_checks(Device& device, std::vector<Check>& checks);
void product_checks(Device& device, std::vector<Check>& checks);
void optimizer_checks(Device& device, std::vector<Check>& checks);
void fused_checks(Device& device, std::vector<Check>& checks);
void slab_checks(Device& device, std::vector<Check>& checks);
// On the case table; narrow: with rows in bf16.
std::vector<Check> case_checks(Device& device, bool narrow);

}  // namespace m5::kernels::cuda
