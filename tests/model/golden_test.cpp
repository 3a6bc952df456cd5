// Whole models against an independent NumPy implementation (tests/golden/golden.py).
#include <gtest/gtest.h>

#include <cmath>

#include "kernels/math/minimax.hpp"
#include "m5/model.hpp"
#include "model_util.hpp"
#include "tests/unit/whole_file.hpp"

namespace m5 {
namespace {

constexpr double kDouble = 1e-12;  // both compute in float64; only the order of sums differs
// fp32: 2^-24 in each of some tens of roundings in a row, on values of about 1.
constexpr double kFloat = 5e-6;
// bf16: operands of the products carry 2^-9 each, over some ten products in a row.
constexpr double kBf16 = 0.05;

class GoldenTest : public testing::TestWithParam<const char*> {
 protected:
  GoldenTest() {
    const auto lengths = expected_.values<std::int64_t>("lengths");
    const auto circular = expected_.values<std::uint8_t>("circular");
    const auto contexts = expected_.values<std::int64_t>("contexts");
    const Token* at = tokens_.data();
    for (std::size_t s = 0; s < lengths.size(); ++s) {
      batch_.push_back({at, lengths[s], circular[s] != 0, contexts[s]});
      at += lengths[s];
    }
    objective_.rows = expected_.values<std::int64_t>("rows");
    objective_.targets = expected_.values<std::uint8_t>("targets");
    objective_.kinds.assign(objective_.rows.size(), TargetKind::kMasked);
  }

  template <class T>
  void check(std::unique_ptr<kernels::Backend<T>> backend, bool training, double tolerance) {
    const std::vector<double> parameters(model_.parameters.begin(), model_.parameters.end());
    TestModel<T> model(model_.config, parameters, std::move(backend), training);
    const auto near = [&](const std::vector<T>& actual, const double* expected, const char* what) {
      double greatest = 0;
      for (std::size_t i = 0; i < actual.size(); ++i) {
        const double error = std::abs(static_cast<double>(actual[i]) - expected[i]);
        greatest = error <= greatest ? greatest : error;  // NaN is kept
      }
      EXPECT_LE(greatest, tolerance) << what;
    };
    const auto log_probs = expected_.values<double>("log_probs");
    near(model.log_probs(batch_), log_probs.data(), "log_probs");
    if (!training) {
      const auto hidden = expected_.values<double>("hidden");
      const std::size_t layer_size = hidden.size() / (model_.config.layers + 1u);
      ASSERT_EQ(layer_size * 4, log_probs.size() * static_cast<std::size_t>(model_.config.dim));
      for (int layer = 0; layer <= model_.config.layers; ++layer) {
        near(model.hidden(batch_, layer), hidden.data() + layer_size * static_cast<unsigned>(layer),
             ("hidden " + std::to_string(layer)).c_str());
      }
    }
    const double loss = expected_.values<double>("loss")[0];
    EXPECT_NEAR(model.encoder.evaluate(batch_, objective_).total_nll(), loss,
                tolerance * static_cast<double>(objective_.rows.size()));
    if (!training) return;
    std::vector<double> gradient(parameters.size());
    const auto result = model.encoder.loss_and_gradient(batch_, objective_, 1, gradient.data());
    EXPECT_NEAR(result.total_nll(), loss, tolerance * static_cast<double>(objective_.rows.size()));
  }

  const std::string path_ = std::string(M5_SOURCE_DIR) + "/tests/golden/" + GetParam();
  const Model model_ = load_model(path_ + ".model.safetensors");
  const test::WholeFile expected_{path_ + ".expected.safetensors"};
  const std::vector<Token> tokens_ = expected_.values<std::uint8_t>("tokens");
  std::vector<TokenView> batch_;
  Objective objective_;
};

TEST_P(GoldenTest, RefDouble) {
  check<double>(kernels::make_ref_backend<double>(), false, kDouble);
  check<double>(kernels::make_ref_backend<double>(), true, kDouble);
}

TEST_P(GoldenTest, RefFloat) {
  check<float>(kernels::make_ref_backend<float>(), false, kFloat);
  check<float>(kernels::make_ref_backend<float>(), true, kFloat);
}

TEST_P(GoldenTest, Cpu) {
  check<float>(kernels::make_cpu_backend({.threads = 2}), false, kFloat);
  check<float>(kernels::make_cpu_backend({.threads = 2}), true, kFloat);
}

TEST_P(GoldenTest, CpuBf16) {
  check<float>(kernels::make_cpu_backend({.threads = 1, .bf16 = true}), false, kBf16);
}

TEST_P(GoldenTest, Polynomial) {
  const auto coefficients = kernels::minimax_exp(model_.config.order, model_.config.bound);
  ASSERT_EQ(coefficients.size(), model_.config.coefficients.size());
  for (std::size_t n = 0; n < coefficients.size(); ++n) {
    EXPECT_NEAR(coefficients[n], model_.config.coefficients[n], 1e-9);
  }
}

INSTANTIATE_TEST_SUITE_P(Models, GoldenTest, testing::Values("conv", "plain"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace m5
