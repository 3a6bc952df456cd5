// Times and memory of whole passes of the presets' widths and orders, in bf16, random parameters.
#pragma once

#include <string>
#include <vector>

#include "kernels/cuda/device.hpp"
#include "kernels/cuda/library.hpp"
#include "m5/config.hpp"

namespace m5::kernels::cuda {

// forward: the embedding and all layers of every row; neither final norm nor head, and no row comes
// back. training: a step with the loss of every seventh row, all gradients, and AdamW.
struct PassKind {
  const char* preset;
  bool training;
  std::int64_t nt;
  std::string name() const;  // "forward, small, 2097152 nt"
};

// How the parts of a layer and the algorithms of the products are chosen.
struct Way {
  Fused fused;
  bool measured;
  std::string name() const;
};
// As the program does (kernels/cuda_device.cpp).
Way program_way(bool training);
// Those with kernels for these widths on this GPU.
std::vector<Way> other_ways(const Device& device, const char* preset);

struct PassTime {
  double seconds = 0;           // the best of some runs, after one that does not count
  double operations = 0;        // of the model (multiply and add are two)
  std::uint64_t planned = 0;    // bytes of the device, as a run is told them before
  std::uint64_t allocated = 0;  // at once at most, of the pool that all of m5's memory comes from
  std::uint64_t of_gpu = 0;     // that are not free while the pool holds all it ever took: context,
                                // code, and other processes, too
  std::string kernels;          // shares of the time, where they are asked for
};
// Error where there is no such preset, or as the sweeps.
PassTime time_pass(const PassKind& kind, const Way& way, Backend<float>& host,
                   std::int64_t chunk_rows, bool kernels);

// A model for checks; fused: of the way.
CudaSetup setup_of(const ModelConfig& config, bool training, Backend<float>& host,
                   std::int64_t chunk_rows, const Way& way);

}  // namespace m5::kernels::cuda
