#include "kernels/sweeps.hpp"

#include "kernels/math/monomials.hpp"

namespace m5::kernels {

AttentionShape attention_shape(const ModelConfig& config) {
  AttentionShape shape;
  shape.heads = config.heads;
  shape.value_dim = config.value_dim();
  shape.order = config.order;
  shape.bound = config.bound;
  shape.features = config.features();
  shape.polynomial = config.coefficients;
  shape.weights = feature_weights(config.coefficients);
  return shape;
}

}  // namespace m5::kernels
