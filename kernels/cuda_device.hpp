// The GPU as a device, by a library that is loaded when it is asked for.
#pragma once

#include <memory>
#include <string>

#include "kernels/devices.hpp"

namespace m5::kernels {

// All look for libm5_cuda.so: where $M5_CUDA_LIBRARY says, or beside the program, in ../lib and
// where the system looks. name: one that names_cuda(). Error(kResource) where the library, what it
// needs, a driver or the GPU is missing; Error(kUsage) for a number that is none.
std::string cuda_library();  // the file that would be loaded; empty where none is found
std::string cuda_device_name(const std::string& name);  // of the GPU, such as "cuda:0 NVIDIA H100"
std::unique_ptr<Device> make_cuda_device(const std::string& name, const DeviceOptions& options);

}  // namespace m5::kernels
