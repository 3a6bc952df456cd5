// Every backward operation of `ref` in double against central differences of its forward operation.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "kernels/cases.hpp"

namespace m5::kernels {
namespace {

// Step 1e-5: truncation ~1e-10 and rounding ~1e-11 times the loss, both well below 1e-7.
constexpr double kStep = 1e-5;
constexpr double kTolerance = 1e-7;
constexpr std::int64_t kSamples = 150;  // elements tried of each array, evenly spread

class GradientTest : public testing::TestWithParam<Case> {};

TEST_P(GradientTest, AgreesWithFiniteDifferences) {
  const Case& c = GetParam();
  const auto ref = make_ref_backend<double>();
  const Values values = initial_values(c, Rounding::kNone);
  Memory<double> memory(c, *ref, values);
  c.prepare(*ref, memory)();
  for (const Case::Gradient& pair : c.gradients) {
    const Slot& output = c.slots[static_cast<std::size_t>(pair.output)];
    const auto& initial = values[static_cast<std::size_t>(pair.output)];
    std::vector<double> gradient = memory.values(pair.output);
    double greatest = 0;
    for (std::size_t i = 0; i < gradient.size(); ++i) {
      if (output.fill == Fill::kUniform) gradient[i] -= initial[i];  // += operations
      greatest = std::max(greatest, std::abs(gradient[i]));
    }
    ASSERT_GT(greatest, 0);

    Memory<double> moved(c, *ref, values);
    const std::vector<double>& at = values[static_cast<std::size_t>(pair.input)];
    ASSERT_EQ(at.size(), gradient.size());
    const auto count = static_cast<std::int64_t>(at.size());
    for (std::int64_t s = 0; s < std::min(count, kSamples); ++s) {
      const std::int64_t i = count <= kSamples ? s : s * (count - 1) / (kSamples - 1);
      const double x = at[static_cast<std::size_t>(i)];
      moved.set(pair.input, i, x + kStep);
      const double above = c.loss(*ref, moved);
      moved.set(pair.input, i, x - kStep);
      const double below = c.loss(*ref, moved);
      moved.set(pair.input, i, x);
      const double slope = (above - below) / (2 * kStep);
      ASSERT_NEAR(slope, gradient[static_cast<std::size_t>(i)], kTolerance * greatest)
          << output.name << "[" << i << "]";
    }
  }
}

std::string test_name(const testing::TestParamInfo<Case>& info) {
  std::string name = std::to_string(info.index) + "_" + info.param.name();
  for (char& ch : name) {
    if (!std::isalnum(static_cast<unsigned char>(ch))) ch = '_';
  }
  return name;
}

INSTANTIATE_TEST_SUITE_P(Cases, GradientTest,
                         testing::ValuesIn(operation_cases(CaseSet::kGradient)), test_name);

TEST(GradientCases, CoverEveryBackwardOperation) {
  std::set<std::string> covered;
  for (const Case& c : operation_cases(CaseSet::kGradient)) covered.insert(c.operation);
  const std::set<std::string> expected = {"linear_backward_input",
                                          "linear_backward_weight",
                                          "embed_backward",
                                          "norm_backward",
                                          "gelu_backward",
                                          "local_conv",
                                          "bound_backward",
                                          "local_conv_backward_weight",
                                          "attention_query_backward",
                                          "head_backward",
                                          "attention_accumulate_backward"};
  EXPECT_EQ(covered, expected);
}

}  // namespace
}  // namespace m5::kernels
