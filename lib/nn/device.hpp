// From the options of a session to a device.
#pragma once

#include <memory>

#include "kernels/devices.hpp"
#include "m5/session.hpp"

namespace m5 {

// Throws as kernels::make_device.
std::unique_ptr<kernels::Device> make_device(const SessionOptions& options);

}  // namespace m5
