// THE parameter table: every tensor of a model, in the order of the slab.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "m5/config.hpp"

namespace m5 {

struct ParameterSpec {
  std::string name;                 // as in the model file
  std::vector<std::int64_t> shape;  // row-major
  std::int64_t offset = 0;          // into the slab, elements
  std::int64_t size = 0;
  double init_scale = 0;  // standard deviation of the normal initialisation; 0: constant init_value
  double init_value = 0;
  bool decay = false;  // weight decay applies (matrices only)
};

// Positions of one layer's tensors in the slab, in slab order.
struct LayerOffsets {
  std::int64_t conv_norm = -1, conv_weight = -1;  // [d], [width][d]; -1 without local convolution
  std::int64_t key_value = 0;                     // [(4+dv)*H][d], rows k [4][H] then v [dv][H]
  std::int64_t attention_norm = 0;                // [d]
  std::int64_t query = 0;                         // [4*H][d], rows [component][head]
  std::int64_t output_weight = 0;                 // [d][dv*H], columns [component][head]
  std::int64_t output_bias = 0;                   // [d]
  std::int64_t ff_norm = 0;                       // [d]
  std::int64_t up_weight = 0, up_bias = 0;        // W_1 [ff][d], [ff]
  std::int64_t down_weight = 0, down_bias = 0;    // W_2 [d][ff], [d]
  std::int64_t end = 0;                           // first element after this layer
};

// The network that mixes the counts of O orders, [in][out] (memory_mix.hpp); -1 without memory.
struct MemoryOffsets {
  std::int64_t confidence_weight = -1;  // [O + 1][hidden]
  std::int64_t confidence_bias = -1;    // [hidden]
  std::int64_t evidence_weight = -1;    // [O + 1][hidden]
  std::int64_t output_weight = -1;      // [hidden]
  // The same as places behind `base`.
  MemoryOffsets from(std::int64_t base) const {
    return {confidence_weight - base, confidence_bias - base, evidence_weight - base,
            output_weight - base};
  }
};

struct ParameterTable {
  explicit ParameterTable(const ModelConfig& config);
  // Throws Error(kUsage) unless a model has `count` parameters.
  void check_count(std::size_t count) const;

  std::vector<ParameterSpec> specs;
  std::int64_t total = 0;                          // elements in the slab
  std::int64_t embedding = 0, embedding_bias = 0;  // [2w+1][7][d], [d]
  std::vector<LayerOffsets> layers;
  std::int64_t final_norm = 0, head_weight = 0, head_bias = 0;  // [d], [4][d], [4]
  std::int64_t encoder = 0;                                     // elements before the memory's
  MemoryOffsets memory;                                         // end the slab
};

}  // namespace m5
