// A timed backend gives what the backend it times gives, and knows every operation.
#include "nn/timed_backend.hpp"

#include <gtest/gtest.h>

#include <set>
#include <string>

#include "kernels/cases.hpp"
#include "model_util.hpp"

namespace m5 {
namespace {

struct Results {
  std::vector<float> log_probs;
  std::vector<double> gradient;
};

Results results(kernels::Backend<float>& backend) {
  const ModelConfig config = tiny_config(16, 2, 4, {{5, 2}, {0, 1}});
  const std::vector<double> values = random_parameters(config, 1);
  Encoder<float> encoder(backend, kernels::make_tiled_sweeps(backend, config, {.training = true}));
  encoder.set_parameters(std::vector<float>(values.begin(), values.end()).data());
  const std::vector<Token> tokens = random_tokens(5000, 2);
  const std::vector<TokenView> batch = {view(tokens, false)};
  const std::vector<std::int64_t> rows = all_rows(5000);
  Results r;
  r.log_probs.resize(4 * rows.size());
  encoder.log_probs(batch, rows, r.log_probs.data());
  r.gradient.assign(values.size(), 0.0);
  encoder.loss_and_gradient(batch, some_objective(5000), 1e-3, r.gradient.data());
  return r;
}

TEST(TimedBackend, ChangesNoResult) {
  const auto backend = kernels::make_cpu_backend({.threads = 2});
  const Results plain = results(*backend);
  OperationTimes times;
  const auto timed = make_timed_backend(*backend, times);
  const Results again = results(*timed);
  EXPECT_EQ(plain.log_probs, again.log_probs);
  EXPECT_EQ(plain.gradient, again.gradient);
  EXPECT_EQ(timed->name(), backend->name());
  EXPECT_EQ(timed->workers(), 2);
}

// Every operation of the case table reaches the operation of the same name, and its count alone.
TEST(TimedBackend, CountsEachOperationUnderItsName) {
  const auto ref = kernels::make_ref_backend<float>();
  OperationTimes times;
  const auto timed = make_timed_backend(*ref, times);
  std::set<std::string> seen;
  for (const kernels::Case& c : kernels::operation_cases(kernels::CaseSet::kBenchmark)) {
    if (!seen.insert(c.operation).second) continue;
    kernels::Memory<float> memory(c, *timed, kernels::initial_values(c, kernels::Rounding::kFloat));
    const kernels::Run run = c.prepare(*timed, memory);
    times.reset();
    run();
    const auto shares = times.shares();
    ASSERT_EQ(shares.size(), 1u) << c.operation;
    EXPECT_EQ(shares[0].operation, c.operation);
    EXPECT_GT(shares[0].seconds, 0);
  }
  EXPECT_EQ(seen.size(), OperationTimes::kOperations - 1u);  // and pack
}

}  // namespace
}  // namespace m5
