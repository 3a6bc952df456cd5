// Muon on a GPU: the formula of kernels/update.hpp, by fp32 products.
#pragma once

#include <algorithm>
#include <memory>
#include <span>

#include "kernels/cuda/device.hpp"
#include "kernels/cuda/products.hpp"
#include "kernels/update.hpp"

namespace m5::kernels::cuda {

// What the matrices of a model need, one after the other.
struct MuonSize {
  explicit MuonSize(std::span<const UpdatePart> parts) {
    for (const UpdatePart& part : parts) {
      if (!part.muon()) continue;
      matrix = std::max(matrix, part.size);
      rows = std::max<std::int64_t>(rows, std::min(part.rows, part.columns));
    }
  }
  std::int64_t matrix = 0;  // numbers of the largest
  std::int64_t rows = 0;    // of the greatest X X^T
};

struct MuonMemory {
  Array<float> x, product;             // [matrix]
  Array<float> gram, square;           // [rows][rows]
  Array<double> norm;                  // [1]
  std::unique_ptr<Products> products;  // of its own: algorithms for as many rows as there are
};

// Updates m and w in place from the gradient of the part; factor and decay of the part are applied.
// partial [square_parts(part.size)]. Sets *not_finite as adamw does.
void muon_update(Device& device, MuonMemory& memory, const UpdatePart& part, const UpdateStep& step,
                 const double* gradient, float* m, float* w, double* partial, int* not_finite);

}  // namespace m5::kernels::cuda
