// Sweeps by blocks of rows that fit the cache of a core, of the operations of a backend: for
// backends whose memory is the host's.
#pragma once

#include <memory>

#include "kernels/sweeps.hpp"

namespace m5::kernels {

// block_rows: a multiple of kRunRows, or 0 for the backend's choice. The backend must outlive them.
template <class T>
std::unique_ptr<Sweeps<T>> make_tiled_sweeps(Backend<T>& backend, const ModelConfig& config,
                                             const SweepOptions& options, int block_rows = 0);
extern template std::unique_ptr<Sweeps<float>> make_tiled_sweeps(Backend<float>&,
                                                                 const ModelConfig&,
                                                                 const SweepOptions&, int);
extern template std::unique_ptr<Sweeps<double>> make_tiled_sweeps(Backend<double>&,
                                                                  const ModelConfig&,
                                                                  const SweepOptions&, int);

}  // namespace m5::kernels
