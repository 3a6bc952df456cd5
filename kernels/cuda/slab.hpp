// How the slab of parameters (kernels/parameters.hpp) lies on the device, as operands and as their
// gradients. Parameters in fp32, moments and sums of gradients lie as in the slab.
//
// On tensor cores the attention reads what a head has of a row at once: queries, keys, values and
// outputs have their columns by heads there, [head][component], where the slab's are
// [component][head]. So have the weights that make them or are multiplied with them; the states and
// all else do not change.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/cuda/device.hpp"
#include "kernels/parameters.hpp"
#include "m5/config.hpp"

namespace m5::kernels::cuda {

// A stretch that has the same place in the slab and on the device: in the slab
// [outer][components][heads][inner], on the device [outer][heads][components][inner]; of one
// component, the same. Its offset and size are multiples of 4, as the sizes of all parameters are.
struct Region {
  std::int64_t offset = 0, size = 0;
  int components = 1, heads = 1;
  std::int64_t inner = 1;

  // The place of the slab's element k of the region on the device, and the other way round; both
  // from `offset`.
  M5_BOTH std::int64_t on_device(std::int64_t k) const { return moved(k, components, heads); }
  M5_BOTH std::int64_t in_slab(std::int64_t k) const { return moved(k, heads, components); }
  // Whether four neighbours, from a multiple of 4 on, are neighbours in both.
  M5_BOTH bool by_fours() const { return components == 1 || inner % 4 == 0; }

 private:
  // From [outer][rows][columns][inner] to [outer][columns][rows][inner].
  M5_BOTH std::int64_t moved(std::int64_t k, int rows, int columns) const {
    if (components == 1) return k;
    const std::int64_t row = k / inner / columns, column = k / inner % columns;
    const std::int64_t outer = row / rows;
    return ((outer * columns + column) * rows + row % rows) * inner + k % inner;
  }
};

// All of the slab, in its order. by_heads: the weights of keys, of values, of queries and of the
// output of every layer are regions with the components of a head; else all is one region as it is.
std::vector<Region> regions_of(const ParameterTable& table, const ModelConfig& config,
                               bool by_heads);

// The greatest power of two that divides the place of every tensor of the encoder: a bias of ff
// numbers lies before what follows it.
std::int64_t operand_alignment(const ParameterTable& table);

// y [device's order] = x [slab's order], rounded, of the first `count` elements of the slab. count,
// offset: multiples of 4; a region that they cut has one component.
void convert(Device& device, const Array<Region>& regions, std::int64_t count, const float* x,
             bf16* y);
// sum [slab's order] += x [device's order] of `count` elements from `offset` on, which x begins
// with; then those that begin `step` behind, and so on, of all `parts`.
void add_gradient(Device& device, const Array<Region>& regions, std::int64_t offset,
                  std::int64_t count, std::int64_t parts, std::int64_t step, const float* x,
                  double* sum);

}  // namespace m5::kernels::cuda
