// The devices that a model runs on, by name.
#pragma once

#include <memory>
#include <string>

#include "kernels/sweeps.hpp"

namespace m5::kernels {

struct DeviceOptions {
  std::string name = "cpu";  // "cpu", "cuda" or "cuda:N" (a GPU), "auto", "ref" (slow oracle)
  int threads = 1;           // of the host
  bool bf16 = false;         // matrix products of bf16 operands, fp32 sums
  int block_rows = 0;        // that a worker of the host holds at a time; 0: chosen
};

class Device {
 public:
  virtual ~Device() = default;
  virtual std::string name() const = 0;  // such as "cpu AVX3_ZEN4, fp32"
  // The threads of the host, and operations on its memory: for what is not in the sweeps. Outlives
  // the sweeps, as the device does.
  virtual Backend<float>& host() = 0;
  virtual std::unique_ptr<Sweeps<float>> make_sweeps(const ModelConfig& config,
                                                     const SweepOptions& options) = 0;
};

// Throws Error(kUsage) for a name that is none, Error(kResource) where the device is missing.
std::unique_ptr<Device> make_device(const DeviceOptions& options);
// "auto": "cuda" where there is a GPU that can be used, else "cpu", said in one line. Any other
// name as it is.
std::string resolve_device(const std::string& name);
// Whether a name is "cuda" or "cuda:N", N a number.
bool names_cuda(const std::string& name);

}  // namespace m5::kernels
