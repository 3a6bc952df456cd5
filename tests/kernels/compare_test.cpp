// The cpu backend on every instruction set of this machine, fp32 and bf16, against `ref` in double.
//
// Tolerance: that of case_outputs.hpp. bf16 meets the same tolerance, once the reference multiplies
// operands rounded to bf16: its sums are fp32.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <map>

#include "case_outputs.hpp"
#include "kernels/cpu/simd.hpp"

namespace m5::kernels {
namespace {

const std::vector<Case>& cases() {
  static const std::vector<Case> all = operation_cases(CaseSet::kCompare);
  return all;
}

struct Setting {
  std::string isa;
  bool bf16;
};

void PrintTo(const Setting& setting, std::ostream* out) {
  *out << setting.isa << (setting.bf16 ? " bf16" : " fp32");
}

// Backends on a forced instruction set; the choice before is restored for the tests that follow.
class CompareTest : public testing::TestWithParam<Setting> {
 protected:
  void SetUp() override {
    if (const char* isa = std::getenv("M5_CPU_ISA")) before_ = isa;
    setenv("M5_CPU_ISA", GetParam().isa.c_str(), 1);
    cpu_ = make_cpu_backend({.threads = 1, .bf16 = GetParam().bf16});
  }
  void TearDown() override {
    simd::force_isa(simd_best());
    before_.empty() ? unsetenv("M5_CPU_ISA") : setenv("M5_CPU_ISA", before_.c_str(), 1);
  }
  static std::string simd_best();

  std::string before_;
  std::unique_ptr<Backend<float>> cpu_;
};

std::vector<Setting> settings() {
  std::vector<Setting> all;
  for (const std::string& isa : simd::available_isas()) {
    all.push_back({isa, false});
    all.push_back({isa, true});
  }
  return all;
}

std::string CompareTest::simd_best() {
  static const std::string best = settings().front().isa;
  return best;
}

TEST_P(CompareTest, AgreesWithRef) {
  EXPECT_NE(cpu_->name().find(GetParam().isa), std::string::npos) << cpu_->name();
  const auto exact = make_ref_backend<double>();
  const auto plain = make_ref_backend<float>();
  for (const Case& c : cases()) {
    const Values values = initial_values(c, Rounding::kFloat);
    const Values seen = GetParam().bf16 ? initial_values(c, Rounding::kBf16) : values;
    const Outputs expected = run(c, *exact, seen), rounded = run(c, *plain, seen);
    const Outputs actual = run(c, *cpu_, values);
    for (const auto& [slot, y] : actual) {
      EXPECT_LE(relative_error(y, expected.at(slot)),
                allowed_error(rounded.at(slot), expected.at(slot)))  // NaN fails
          << c.name() << " " << c.slots[static_cast<std::size_t>(slot)].name;
    }
  }
}

TEST_P(CompareTest, AlignmentChangesNothing) {
  for (const Case& c : cases()) {
    const Values values = initial_values(c, Rounding::kFloat);
    const Outputs aligned = run(c, *cpu_, values);
    for (int misalign : {1, 3}) EXPECT_EQ(run(c, *cpu_, values, misalign), aligned) << c.name();
  }
}

// Rows of an output that depends on its own row alone are the same bits among any number of rows.
TEST_P(CompareTest, RowsDoNotKnowTheirCompany) {
  std::map<std::string, std::vector<const Case*>> families;
  for (const Case& c : cases()) families[c.operation + "/" + c.shape].push_back(&c);
  for (const auto& [name, family] : families) {
    const Case& longest = *family.back();
    const Outputs all = run(longest, *cpu_, initial_values(longest, Rounding::kFloat));
    for (const Case* c : family) {
      ASSERT_LE(c->rows, longest.rows);
      for (const auto& [slot, y] : run(*c, *cpu_, initial_values(*c, Rounding::kFloat))) {
        if (!c->slots[static_cast<std::size_t>(slot)].by_row) continue;
        const std::vector<double>& whole = all.at(slot);
        EXPECT_TRUE(std::equal(y.begin(), y.end(), whole.begin()))
            << c->name() << " " << c->slots[static_cast<std::size_t>(slot)].name;
      }
    }
  }
}

std::string test_name(const testing::TestParamInfo<Setting>& info) {
  return info.param.isa + (info.param.bf16 ? "_bf16" : "_fp32");
}

INSTANTIATE_TEST_SUITE_P(Cpu, CompareTest, testing::ValuesIn(settings()), test_name);

TEST(CompareCases, CoverEveryOperation) {
  std::map<std::string, int> count;
  for (const Case& c : cases()) ++count[c.operation];
  for (const char* operation : {"linear",
                                "linear_backward_input",
                                "linear_backward_weight",
                                "embed",
                                "embed_backward",
                                "norm",
                                "norm_backward",
                                "to_bf16",
                                "from_bf16",
                                "gelu",
                                "gelu_backward",
                                "local_conv",
                                "local_conv_backward_weight",
                                "bound",
                                "bound_backward",
                                "attention_accumulate",
                                "attention_scale",
                                "attention_query",
                                "attention_query_backward",
                                "attention_accumulate_backward",
                                "head",
                                "head_backward",
                                "adamw"}) {
    EXPECT_EQ(count.count(operation), 1u) << operation;
  }
  EXPECT_EQ(count.size(), 23u);
}

// What `m5 bench ops` prints a share of peak for.
TEST(BenchmarkCases, CoverEveryOperationAndTheShapesOfTheAttention) {
  std::map<std::string, std::vector<std::string>> shapes;
  for (const Case& c : operation_cases(CaseSet::kBenchmark)) {
    shapes[c.operation].push_back(c.shape);
    EXPECT_GT(c.flops, 0) << c.name();
  }
  EXPECT_EQ(shapes.size(), 23u);
  for (const char* operation : {"attention_accumulate", "attention_query",
                                "attention_query_backward", "attention_accumulate_backward"}) {
    for (const char* part : {"p=2", "p=4", "p=6", "p=8", "dv=8,", "dv=16,", "dv=32,"}) {
      const auto& of = shapes[operation];
      EXPECT_TRUE(std::any_of(
          of.begin(), of.end(),
          [&](const std::string& shape) { return shape.find(part) != std::string::npos; }))
          << operation << " " << part;
    }
  }
}

}  // namespace
}  // namespace m5::kernels
