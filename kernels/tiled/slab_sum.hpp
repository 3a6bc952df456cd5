// The sum over the pieces of a context, slab by slab: whoever has whole slabs can add them up apart
// from the others, and the sum of their sums is the same to the bit.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/sweeps.hpp"

namespace m5::kernels {

class SlabSum {
 public:
  void begin(std::int64_t size) {
    slab_.assign(static_cast<std::size_t>(size), 0.0);
    total_.assign(static_cast<std::size_t>(size), 0.0);
    pieces_ = 0;
  }
  // Of the next piece.
  void add(const double* piece) {
    for (std::size_t i = 0; i < slab_.size(); ++i) slab_[i] += piece[i];
    if (++pieces_ % kSlabPieces == 0) end_slab();
  }
  // Of all pieces; the last slab ends with them.
  const double* end() {
    if (pieces_ % kSlabPieces != 0) end_slab();
    return total_.data();
  }

 private:
  void end_slab() {
    for (std::size_t i = 0; i < slab_.size(); ++i) total_[i] += slab_[i];
    std::fill(slab_.begin(), slab_.end(), 0.0);
  }

  std::vector<double> slab_, total_;
  std::int64_t pieces_ = 0;
};

}  // namespace m5::kernels
