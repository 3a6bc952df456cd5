// From the options of a session to a backend.
#pragma once

#include <memory>

#include "kernels/backend.hpp"
#include "m5/session.hpp"

namespace m5 {

// Throws Error(kUsage) for a device of another name, Error(kResource) where the device is missing.
std::unique_ptr<kernels::Backend<float>> make_backend(const SessionOptions& options);

}  // namespace m5
