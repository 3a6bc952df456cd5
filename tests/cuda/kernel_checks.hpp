// Every kernel of the CUDA device against the `ref` backend in double, on small odd cases: run on
// the emulation by the tests and on a GPU by tests/perf/gpu_check.cu.
#pragma once

#include <vector>

#include "check.hpp"
#include "kernels/cuda/device.hpp"

namespace m5::kernels::cuda {

std::vector<Check> kernel_checks(Device& device);
// Those of the attention among them, of the update of the parameters, of fused kernels, and of how
// the parameters lie.
void attention_checks(Device& device, std::vector<Check>& checks);
void optimizer_checks(Device& device, std::vector<Check>& checks);
void fused_checks(Device& device, std::vector<Check>& checks);
void slab_checks(Device& device, std::vector<Check>& checks);

}  // namespace m5::kernels::cuda
