// The operations of kernels/backend.hpp by the kernels of the CUDA device, for the case table.
#pragma once

#include <memory>

#include "kernels/backend.hpp"
#include "kernels/cuda/device.hpp"

namespace m5::kernels::cuda {

// Operations that no kernel does by itself. The others are run.
struct NotRun {
  const char* operation;
  const char* why;
};
inline constexpr NotRun kNotRun[] = {
    {"bound", "the attention's kernels bound what they read"},
    {"bound_backward", "the attention's kernels of gradients end with it"},
    {"from_bf16", "kernels widen what they load, the host what it downloads"},
};

// Arrays are the host's: each operation uploads, runs kernels, and downloads. Rows are E, float or
// bf16, on the device. What a kernel does besides is undone before or behind it, in double.
template <class E>
std::unique_ptr<Backend<float>> make_case_backend(Device& device);

}  // namespace m5::kernels::cuda
