// The GPU as a device, by a library that is loaded when it is asked for.
#pragma once

#include <memory>

#include "kernels/devices.hpp"

namespace m5::kernels {

// Whether a name is "cuda" or "cuda:N".
bool names_cuda(const std::string& name);
// Looks for libm5_cuda.so: where $M5_CUDA_LIBRARY says, or beside the program, in ../lib and where
// the system looks. Error(kResource) where it, its own libraries, a driver or the GPU is missing;
// Error(kUsage) for a number that is none.
std::unique_ptr<Device> make_cuda_device(const DeviceOptions& options);

}  // namespace m5::kernels
