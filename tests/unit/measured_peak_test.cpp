// The FLOP convention by hand, and that a peak is measured at all (never how high it is).
#include "nn/measured_peak.hpp"

#include <gtest/gtest.h>

namespace m5 {
namespace {

ModelConfig config(int layers) {
  ModelConfig c;
  c.dim = 64;
  c.layers = layers;
  c.heads = 8;  // dv 8
  c.ff_dim = 256;
  c.order = 4;  // F 70
  c.validate();
  return c;
}

constexpr double kSquare = 64 * 64, kAttention = 2 * 70 * 9 * 8;  // d^2, U

TEST(Flops, ForwardLayerIsTwentyTwoSquares) {
  EXPECT_DOUBLE_EQ(forward_flops_per_nt(config(3)), 3 * (22 * kSquare + 2 * kAttention));
}

TEST(Flops, TrainingLayerIsEightySquaresAndSevenAttentions) {
  const double layer =
      training_flops_per_nt(config(3), 0.15) - training_flops_per_nt(config(2), 0.15);
  EXPECT_DOUBLE_EQ(layer, 80 * kSquare + 7 * kAttention);
}

TEST(Flops, LastQueryHalfRunsOnTheRowsAskedAbout) {
  // Query half of 2*4H d + 2 d d + 16 d d = 19 d^2 here; key half 2 (4 + dv) H d = 3 d^2.
  const double key = 3 * kSquare + kAttention, query = 19 * kSquare + kAttention;
  EXPECT_DOUBLE_EQ(forward_flops_per_nt(config(1), 0.25), key + 0.25 * query);
  EXPECT_DOUBLE_EQ(training_flops_per_nt(config(1), 0.25),
                   12 * kSquare + 3 * kAttention + 0.25 * 3 * query);
}

TEST(Flops, ConvolutionsCount) {
  ModelConfig c = config(2);
  const double forward = forward_flops_per_nt(c), training = training_flops_per_nt(c, 0.15);
  c.local_conv = {{9, 3}, {0, 1}};
  EXPECT_DOUBLE_EQ(forward_flops_per_nt(c) - forward, 2 * 9 * 64);
  EXPECT_DOUBLE_EQ(training_flops_per_nt(c, 0.15) - training, 3 * 2 * 9 * 64);
}

TEST(MeasuredPeak, KeepsTheBestBurst) {
  MeasuredPeak peak(2, false, MeasuredPeak::shapes_of(config(1), 64));
  EXPECT_EQ(peak.best(), 0);
  const double first = peak.measure(0.001), second = peak.measure(0.001);
  EXPECT_GT(first, 0);
  EXPECT_EQ(peak.best(), std::max(first, second));
  EXPECT_GT(peak.best_shape().rows, 0);
}

}  // namespace
}  // namespace m5
