// What libm5_cuda.so gives to the program that loads it (kernels/cuda_device.cpp). Both come from
// one build: the loader refuses a library of another version.
#pragma once

#include <cstdint>
#include <string>

#include "kernels/sweeps.hpp"

namespace m5::kernels::cuda {

// Raised where what crosses the library changes: CudaSetup, Sweeps, Pass, Update.
inline constexpr int kLibraryLayout = 3;

inline constexpr std::int64_t kChunkRows = 131072;

// Parts of a layer as one kernel (fused.hpp), in bf16, where there are such of its widths. Their
// sums have other orders than those of cuBLASLt, and so other last bits.
enum class Fused {
  kNone,
  kWarps,
  kWarpgroups,  // the feed-forward by the tensor cores of a warpgroup, if the GPU has them
  kChosen,      // by GPU and widths, the same for every process (NOTES.md)
};

struct CudaSetup {
  ModelConfig config;
  SweepOptions options;
  int device_index = 0;
  bool bf16 = false;                     // x and operands of products; sums are fp32 in any case
  std::int64_t chunk_rows = kChunkRows;  // rows that the device works on at a time
  // Of the algorithms that cuBLASLt proposes for a product of bf16, the fastest of those that give
  // the bits of the first: measured once for each shape, kept for the process. For long work: each
  // that is tried is loaded first.
  bool measured_products = false;
  Fused fused = Fused::kNone;
  Backend<float>* host = nullptr;  // threads for the calls back; outlives the sweeps
};

// The symbols: "m5_cuda_" and the name. The last two may throw Error.
struct Library {
  const char* (*version)() = nullptr;
  int (*layout)() = nullptr;
  void (*describe)(int device_index, std::string* name) = nullptr;  // the name of the GPU
  Sweeps<float>* (*make_sweeps)(const CudaSetup* setup) = nullptr;
};

}  // namespace m5::kernels::cuda
