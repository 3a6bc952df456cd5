// What the update of the parameters holds on a GPU; the update itself is in update.cu.
#pragma once

#include <span>
#include <vector>

#include "kernels/cuda/muon.hpp"
#include "kernels/cuda/optimizer.hpp"
#include "kernels/parameters.hpp"

namespace m5::kernels::cuda {

struct UpdateMemory {
  UpdateMemory() = default;
  UpdateMemory(Device& device, const ParameterTable& table, std::span<const UpdatePart> parts,
               bool averaged);
  static std::uint64_t bytes(const ParameterTable& table, std::span<const UpdatePart> parts,
                             bool averaged);

  // The gradient is that of the sweeps. Of what the host adds up itself: the head's bias and all
  // behind it. Copied over that part when the squared norm is asked for.
  std::vector<double> host_gradient;
  Array<float> first, second;  // [total] moments
  Array<float> average;        // [total], or none
  Array<Stretch> stretches;
  Array<double> partial, norm;  // of the squared norm
  Array<int> not_finite;        // [1]
  MuonMemory muon;              // empty without its matrices

 private:
  // take(array of m, its elements) for all that there are.
  template <class Take>
  static void each(const ParameterTable& table, std::span<const UpdatePart> parts, bool averaged,
                   UpdateMemory& m, Take take);
};

}  // namespace m5::kernels::cuda
