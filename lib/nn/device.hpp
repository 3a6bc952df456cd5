// From the names of the command line to a backend, and the work of a model in operations.
#pragma once

#include <memory>
#include <string>

#include "kernels/backend.hpp"
#include "m5/config.hpp"
#include "m5/session.hpp"

namespace m5 {

// "cpu", "cuda", "auto", "ref"; threads 0: available_cpus(). Throws Error(kUsage) for another name,
// Error(kResource) where the device is missing.
std::unique_ptr<kernels::Backend<float>> make_backend(const std::string& device, int threads,
                                                      Precision precision);

// Floating-point operations of one row forward: linear layers, attention, convolutions.
double forward_flops_per_row(const ModelConfig& config);

}  // namespace m5
