// Which parameters are updated by which rule and at which learning rate.
#include "train/optimizer.hpp"

#include <gtest/gtest.h>

#include <set>

#include "base/random.hpp"
#include "kernels/devices.hpp"
#include "m5/model.hpp"
#include "train/host_update.hpp"

namespace m5 {
namespace {

class OptimizerTest : public testing::Test {
 protected:
  OptimizerTest() {
    settings_.config = ModelConfig::preset("nano-conv");
    settings_.config.layers = 2;
    settings_.config.local_conv.resize(2);
    settings_.config.memory = MemoryConfig::standard();  // its weights are AdamW's
    settings_.warmup = 1;
    settings_.learning_rate = 1e-2;
  }

  // The parameters after two steps of made-up gradients.
  std::vector<float> updated() {
    const auto device = kernels::make_device({.threads = 2});
    const auto sweeps = device->make_sweeps(settings_.config, {.training = true});
    kernels::ParameterState state;
    state.parameters = initial_model(settings_.config, 1).parameters;
    const auto update =
        make_update(*sweeps, device->host(), update_parts(settings_, sweeps->table()), state);
    for (std::int64_t step = 1; step <= 2; ++step) {
      update->clear_gradient();
      for (std::size_t i = 0; i < state.parameters.size(); ++i) {
        update->gradient()[i] += normal(static_cast<std::uint64_t>(step), i);
      }
      EXPECT_TRUE(update->apply(update_step(settings_, step, 0.5)));
    }
    return state.parameters;
  }

  // Names of the tensors that differ; rows of keys and of values are told apart.
  std::set<std::string> differing(const std::vector<float>& a, const std::vector<float>& b) const {
    std::set<std::string> names;
    for (const ParameterSpec& spec : ParameterTable(settings_.config).specs) {
      const bool both = spec.name.ends_with("key_value");
      const std::int64_t keys =
          both ? std::int64_t{kKeyDim} * settings_.config.heads * settings_.config.dim : spec.size;
      for (std::int64_t i = 0; i < spec.size; ++i) {
        const auto at = static_cast<std::size_t>(spec.offset + i);
        if (a[at] == b[at]) continue;
        names.insert(!both ? spec.name : spec.name + (i < keys ? ":key" : ":value"));
      }
    }
    return names;
  }

  static std::set<std::string> of_layers(const std::vector<std::string>& names) {
    std::set<std::string> all;
    for (const char* layer : {"layers.0.", "layers.1."}) {
      for (const std::string& name : names) all.insert(layer + name);
    }
    return all;
  }

  TrainSettings settings_;
};

TEST_F(OptimizerTest, MuonUpdatesTheMatricesOfTheBlocksAndNothingElse) {
  const std::vector<float> adamw = updated();
  settings_.optimizer = MatrixOptimizer::kMuon;
  EXPECT_EQ(
      differing(adamw, updated()),
      of_layers({"attention.key_value:key", "attention.key_value:value", "attention.query",
                 "attention.output.weight", "feed_forward.up.weight", "feed_forward.down.weight"}));
}

TEST_F(OptimizerTest, KeysAndQueriesHaveALearningRateOfTheirOwn) {
  for (const MatrixOptimizer optimizer : {MatrixOptimizer::kAdamW, MatrixOptimizer::kMuon}) {
    settings_.optimizer = optimizer;
    settings_.key_query_factor = 1;
    const std::vector<float> before = updated();
    settings_.key_query_factor = 4;
    EXPECT_EQ(differing(before, updated()),
              of_layers({"attention.key_value:key", "attention.query"}));
    settings_.key_query_factor = 0;
    const std::vector<float> still = updated();
    const std::set<std::string> moved =
        differing(initial_model(settings_.config, 1).parameters, still);
    EXPECT_FALSE(moved.contains("layers.0.attention.query"));
    EXPECT_FALSE(moved.contains("layers.1.attention.key_value:key"));
    EXPECT_TRUE(moved.contains("layers.1.attention.key_value:value"));
  }
}

TEST_F(OptimizerTest, MuonHasALearningRateOfItsOwn) {
  settings_.optimizer = MatrixOptimizer::kMuon;
  const std::vector<float> same = updated();
  settings_.muon_learning_rate = settings_.learning_rate;
  EXPECT_EQ(updated(), same);
  settings_.muon_learning_rate = 3 * settings_.learning_rate;
  const std::vector<float> faster = updated();
  const std::set<std::string> moved = differing(same, faster);
  EXPECT_EQ(moved.size(), 12u);
  EXPECT_TRUE(moved.contains("layers.1.feed_forward.up.weight"));
  EXPECT_FALSE(moved.contains("head.weight"));
}

}  // namespace
}  // namespace m5
