// The gradient of a whole small model, in double on `ref`, against central differences; and that it
// does not depend on how much of the forward pass is kept.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "model_util.hpp"

namespace m5 {
namespace {

constexpr double kStep = 1e-5;       // truncation ~1e-10, rounding ~1e-16 loss / step ~ 1e-9
constexpr double kTolerance = 1e-6;  // of the greatest element of a tensor's gradient

// `samples` elements of every tensor, evenly spread. The differences come from an encoder for
// inference, which updates the residual stream in place; the gradient from one for training.
void check_gradient(const ModelConfig& config, const std::vector<TokenView>& batch, int samples,
                    double loss_scale, const RowCounts& counts = {}) {
  std::vector<double> parameters = random_parameters(config, 17);
  TestModel<double> inference(config, parameters, kernels::make_ref_backend<double>());
  TestModel<double> training(config, parameters, kernels::make_ref_backend<double>(), true);
  const Objective objective = some_objective(TestModel<double>::row_count(batch));
  const ParameterTable table(config);

  std::vector<double> gradient(static_cast<std::size_t>(table.total), 0.25);  // it is added to
  const ObjectiveResult result =
      training.encoder.loss_and_gradient(batch, objective, loss_scale, gradient.data(), counts);
  for (double& g : gradient) g -= 0.25;
  const ObjectiveResult same = inference.encoder.evaluate(batch, objective, counts);
  EXPECT_NEAR(result.total_nll(), same.total_nll(), 1e-11 * same.total_nll());
  EXPECT_EQ(result.count, same.count);
  EXPECT_EQ(result.correct, same.correct);
  EXPECT_EQ(result.total_count(), static_cast<std::int64_t>(objective.rows.size()));

  const auto loss = [&](std::size_t i, double value) {
    const double before = std::exchange(parameters[i], value);
    inference.set(parameters);
    parameters[i] = before;
    return loss_scale * inference.encoder.evaluate(batch, objective, counts).total_nll();
  };
  for (const ParameterSpec& spec : table.specs) {
    double greatest = 0;
    for (std::int64_t i = spec.offset; i < spec.offset + spec.size; ++i) {
      greatest = std::max(greatest, std::abs(gradient[static_cast<std::size_t>(i)]));
    }
    EXPECT_GT(greatest, 0) << spec.name;
    const std::int64_t count = std::min<std::int64_t>(samples, spec.size);
    for (std::int64_t s = 0; s < count; ++s) {
      const auto i = static_cast<std::size_t>(
          spec.offset + (spec.size - 1) * s / std::max<std::int64_t>(count - 1, 1));
      const double x = parameters[i];
      const double slope = (loss(i, x + kStep) - loss(i, x - kStep)) / (2 * kStep);
      EXPECT_NEAR(slope, gradient[i], kTolerance * greatest)
          << spec.name << "[" << i - static_cast<std::size_t>(spec.offset) << "]";
    }
  }
}

TEST(ModelGradient, TwoContextsCircularAndLinear) {
  const auto a = random_tokens(37, 1), b = random_tokens(5, 2), c = random_tokens(23, 3);
  check_gradient(tiny_config(16, 2, 4), {view(a, false, 0), view(b, true, 0), view(c, true, 1)}, 12,
                 0.7);
}

TEST(ModelGradient, LocalConvolutions) {
  const auto a = random_tokens(37, 4), b = random_tokens(5, 5), c = random_tokens(23, 6);
  check_gradient(tiny_config(16, 3, 2, {{5, 1}, {0, 1}, {3, 9}}),
                 {view(a, true, 0), view(b, true, 0), view(c, false, 1)}, 12, 1);
}

ModelConfig with_memory(ModelConfig config) {
  config.memory.orders = {{1, 1}, {3, 0}, {0, 3}, {2, 5}, {5, 2}};
  config.memory.hidden = 8;
  config.validate();
  return config;
}

// None seen, one, a few and many.
void some_counts(std::span<const std::int64_t> rows, std::uint32_t* counts) {
  for (const std::int64_t row : rows) {
    std::mt19937_64 random(static_cast<std::uint64_t>(row));
    for (int i = 0; i < 5 * kBases; ++i) {
      const auto draw = random();
      *counts++ = draw % 3 == 0 ? 0 : static_cast<std::uint32_t>(draw >> (40 + draw % 24));
    }
  }
}

TEST(ModelGradient, GenomeMemory) {
  const auto a = random_tokens(37, 21), b = random_tokens(23, 22);
  check_gradient(with_memory(tiny_config(16, 2, 2, {{3, 1}, {0, 1}})),
                 {view(a, false, 0), view(b, true, 1)}, 12, 0.7, some_counts);
}

// The gradient of the memory alone is that part of the gradient of all.
TEST(ModelGradient, OfTheMemoryAlone) {
  const auto a = random_tokens(2500, 23), b = random_tokens(300, 24);
  const std::vector<TokenView> batch = {view(a, true, 0), view(b, false, 1)};
  const ModelConfig config = with_memory(tiny_config(16, 2, 2));
  const std::vector<double> parameters = random_parameters(config, 25);
  const Objective objective = some_objective(TestModel<double>::row_count(batch));
  TestModel<double> all(config, parameters, kernels::make_ref_backend<double>(), true);
  TestModel<double> memory(config, parameters, kernels::make_ref_backend<double>());
  std::vector<double> expected(parameters.size()), actual(parameters.size());
  const auto r = all.encoder.loss_and_gradient(batch, objective, 0.5, expected.data(), some_counts);
  const auto s = memory.encoder.memory_gradient(batch, objective, 0.5, actual.data(), some_counts);
  EXPECT_NEAR(r.total_nll(), s.total_nll(), 1e-9);
  const auto first = static_cast<std::size_t>(ParameterTable(config).encoder);
  for (std::size_t i = 0; i < actual.size(); ++i) {
    EXPECT_NEAR(actual[i], i < first ? 0 : expected[i], 1e-9) << i;
  }
}

// Of many short windows, of which several may share the work of a thread.
TEST(ModelGradient, OfTheMemoryAloneWhateverTheThreads) {
  const ModelConfig config = with_memory(tiny_config(16, 1, 2));
  const std::vector<double> parameters = random_parameters(config, 28);
  std::vector<std::vector<Token>> windows;
  std::vector<TokenView> batch;
  for (unsigned i = 0; i < 40; ++i) windows.push_back(random_tokens(60 + i, 100 + i));
  for (const auto& w : windows) {
    batch.push_back(view(w, false, static_cast<std::int64_t>(batch.size())));
  }
  const Objective objective = some_objective(TestModel<float>::row_count(batch));
  std::vector<double> expected(parameters.size());
  for (const int threads : {1, 2, 3, 5}) {
    for (const int block_rows : {128, 512}) {
      TestModel<float> model(config, parameters, kernels::make_cpu_backend({.threads = threads}),
                             false, block_rows);
      std::vector<double> gradient(parameters.size());
      model.encoder.memory_gradient(batch, objective, 0.5, gradient.data(), some_counts);
      if (threads == 1 && block_rows == 128) expected = gradient;
      EXPECT_EQ(gradient, expected) << threads << " threads, " << block_rows << " rows";
    }
  }
  EXPECT_NE(expected, std::vector<double>(parameters.size()));
}

// Fresh mixing weights, and a memory that is off, leave the encoder's bytes as they are.
TEST(ModelGradient, MemoryThatIsOffChangesNothing) {
  const auto a = random_tokens(300, 26);
  const ModelConfig plain = tiny_config(16, 1, 2), config = with_memory(plain);
  std::vector<double> parameters = random_parameters(config, 27);
  TestModel<float> with(config, parameters, kernels::make_cpu_backend({.threads = 1}));
  parameters.resize(static_cast<std::size_t>(ParameterTable(plain).total));
  TestModel<float> without(plain, parameters, kernels::make_cpu_backend({.threads = 1}));
  const std::vector<TokenView> batch = {view(a, false)};
  const std::vector<float> expected = without.log_probs(batch);
  EXPECT_EQ(with.log_probs(batch), expected);
  std::vector<float> mixed(expected.size());
  with.encoder.log_probs(batch, all_rows(300), mixed.data(), some_counts);
  EXPECT_NE(mixed, expected);
}

TEST(ModelGradient, TwoNucleotides) {
  const auto a = random_tokens(2, 7);
  check_gradient(tiny_config(8, 1, 2, {{3, 1}}), {view(a, false)}, 6, 1);
}

TEST(ModelGradient, HigherOrders) {
  const auto a = random_tokens(11, 8);
  for (int order : {6, 8}) check_gradient(tiny_config(8, 1, order), {view(a, false)}, 6, 1);
}

// More rows than a block and than a tile, convolutions that reach across their edges.
TEST(ModelGradient, AcrossTiles) {
  const auto a = random_tokens(2100, 9), b = random_tokens(300, 10);
  check_gradient(tiny_config(8, 2, 2, {{5, 27}, {3, 200}}), {view(a, true), view(b, false)}, 2,
                 0.1);
}

// Layers between kept stages are computed again by the kernels and blocks of forward: same bytes.
void check_keep_every(const ModelConfig& config, bool bf16) {
  const auto a = random_tokens(2500, 11), b = random_tokens(300, 12);
  const std::vector<TokenView> batch = {view(a, true, 0), view(b, false, 1)};
  const Objective objective = some_objective(TestModel<float>::row_count(batch));
  const std::vector<double> parameters = random_parameters(config, 18);
  const auto size = parameters.size();
  std::vector<double> expected(size);
  ObjectiveResult result, validation;
  for (const int threads : {1, 2}) {
    TestModel<float> model(config, parameters,
                           kernels::make_cpu_backend({.threads = threads, .bf16 = bf16}), true);
    for (const int k : {1, 2, 3, config.layers, config.layers + 7, 1}) {
      model.encoder.keep_every(k);
      std::vector<double> gradient(size);
      const ObjectiveResult r =
          model.encoder.loss_and_gradient(batch, objective, 0.3, gradient.data());
      if (threads == 1 && k == 1) {
        expected = gradient;
        result = r;
      }
      EXPECT_TRUE(gradient == expected) << "k = " << k << ", threads: " << threads;
      EXPECT_EQ(r.nll, result.nll);
      // Validation runs on the same encoder.
      const ObjectiveResult v = model.encoder.evaluate(batch, objective);
      if (threads == 1 && k == 1) validation = v;
      EXPECT_EQ(v.nll, validation.nll);
    }
  }
}

TEST(ModelGradient, DoesNotDependOnWhatIsKept) {
  for (const bool bf16 : cpu_precisions()) {
    check_keep_every(tiny_config(16, 5, 2), bf16);
    check_keep_every(tiny_config(16, 5, 2, {{5, 1}, {0, 1}, {3, 9}, {3, 2}, {5, 3}}), bf16);
    check_keep_every(tiny_config(16, 4, 4, {{3, 1}, {3, 5}, {0, 1}, {0, 1}}), bf16);
    check_keep_every(tiny_config(16, 1, 2, {{3, 1}}), bf16);
  }
}

// Keeping less needs less, until the stages inside a group outweigh those between groups.
TEST(ModelGradient, MemoryOfWhatIsKept) {
  const ModelConfig config = tiny_config(16, 9, 2);
  const auto backend = kernels::make_cpu_backend({.threads = 1});
  Encoder<float> encoder(*backend,
                         kernels::make_tiled_sweeps(*backend, config, {.training = true}));
  const std::int64_t rows = 1'000'000, stream = rows * config.dim * 4;
  encoder.keep_every(1);
  const auto all = static_cast<std::int64_t>(encoder.pass_memory(rows, 1, 1).host);
  const std::vector<std::pair<int, int>> kept = {{2, 5 + 1}, {3, 3 + 2}, {4, 3 + 3}, {9, 1 + 8}};
  for (const auto& [k, streams] : kept) {
    encoder.keep_every(k);
    // Large buffers lie in huge pages.
    EXPECT_NEAR(static_cast<double>(encoder.pass_memory(rows, 1, 1).host),
                static_cast<double>(all - (9 - streams) * stream), 9.0 * (1 << 21))
        << "k = " << k;
  }
}

}  // namespace
}  // namespace m5
