// What must stay the same when threads, blocks, company or the cut of a circle change.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <mutex>

#include "model_util.hpp"

namespace m5 {
namespace {

using kernels::kTileRows;

std::unique_ptr<kernels::Backend<float>> cpu(int threads = 1, bool bf16 = false) {
  return kernels::make_cpu_backend({.threads = threads, .bf16 = bf16});
}

ModelConfig conv_config() { return tiny_config(32, 3, 4, {{9, 1}, {0, 1}, {9, 27}}); }

template <class T>
double greatest_difference(const std::vector<T>& a, const std::vector<T>& b) {
  EXPECT_EQ(a.size(), b.size());
  double greatest = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double difference = std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i]));
    greatest = difference <= greatest ? greatest : difference;  // NaN is kept
  }
  return greatest;
}

// Three records of awkward lengths in two contexts.
struct Records {
  std::vector<Token> a = random_tokens(5000, 1), b = random_tokens(131, 2),
                     c = random_tokens(2049, 3);
  std::vector<TokenView> batch() const {
    return {view(a, true, 0), view(b, false, 0), view(c, false, 1)};
  }
};

TEST(Relations, ThreadsChangeNothing) {
  const Records records;
  const auto batch = records.batch();
  const Objective objective = some_objective(TestModel<float>::row_count(batch));
  for (const ModelConfig& config : {conv_config(), tiny_config(32, 2, 4)}) {
    for (bool bf16 : cpu_precisions()) {
      const auto parameters = random_parameters(config, 5);
      std::vector<float> expected;
      std::vector<double> expected_gradient;
      for (int threads : {1, 2, 8, 8}) {
        TestModel<float> inference(config, parameters, cpu(threads, bf16));
        const auto log_probs = inference.log_probs(batch);
        TestModel<float> training(config, parameters, cpu(threads, bf16), true);
        std::vector<double> gradient(parameters.size());
        training.encoder.loss_and_gradient(batch, objective, 1, gradient.data());
        if (threads == 1) {
          expected = log_probs;
          expected_gradient = gradient;
        }
        EXPECT_EQ(log_probs, expected) << threads;
        EXPECT_EQ(gradient, expected_gradient) << threads;
      }
    }
  }
}

TEST(Relations, BlockRowsChangeNothing) {
  const Records records;
  const auto batch = records.batch();
  const ModelConfig config = conv_config();
  const auto parameters = random_parameters(config, 6);
  for (bool bf16 : cpu_precisions()) {
    TestModel<float> expected(config, parameters, cpu(1, bf16), false, 128);
    const auto log_probs = expected.log_probs(batch);
    const auto hidden = expected.hidden(batch, 2);
    for (int block : {256, 384, 512, 2048, 4096}) {
      TestModel<float> model(config, parameters, cpu(2, bf16), false, block);
      EXPECT_EQ(model.log_probs(batch), log_probs) << block;
      EXPECT_EQ(model.hidden(batch, 2), hidden) << block;
    }
  }
}

TEST(Relations, SeveralLayersInOnePassAreThoseOfOneEach) {
  const Records records;
  const auto batch = records.batch();
  const ModelConfig config = conv_config();
  const auto parameters = random_parameters(config, 6);
  TestModel<float> model(config, parameters, cpu(2));
  for (const std::vector<int>& layers :
       {std::vector<int>{0, 1, 2, 3}, {0, 2}, {1}, {1, 3}, {3}, {0, 1}}) {
    std::vector<std::vector<float>> got(4);
    std::mutex mutex;
    int latest = 0;
    model.encoder.hidden(
        batch, layers, [&](int layer, std::int64_t first, int n, const float* values) {
          const std::lock_guard lock(mutex);
          EXPECT_GE(layer, latest);
          latest = layer;
          auto& rows = got[static_cast<std::size_t>(layer)];
          rows.resize(static_cast<std::size_t>(TestModel<float>::row_count(batch) * model.dim));
          std::copy_n(values, std::int64_t{n} * model.dim, rows.data() + first * model.dim);
        });
    for (int layer = 0; layer < 4; ++layer) {
      const bool asked = std::binary_search(layers.begin(), layers.end(), layer);
      EXPECT_EQ(got[static_cast<std::size_t>(layer)],
                asked ? model.hidden(batch, layer) : std::vector<float>());
    }
  }
}

TEST(Relations, BlockRowsChangeNoGradient) {
  const Records records;
  const auto batch = records.batch();
  const ModelConfig config = conv_config();
  const auto parameters = random_parameters(config, 6);
  const Objective objective = some_objective(TestModel<float>::row_count(batch));
  for (bool bf16 : cpu_precisions()) {
    std::vector<double> expected;
    for (int block : {128, 256, 384, 2048}) {
      TestModel<float> model(config, parameters, cpu(2, bf16), true, block);
      std::vector<double> gradient(parameters.size());
      model.encoder.loss_and_gradient(batch, objective, 1, gradient.data());
      if (block == 128) expected = gradient;
      EXPECT_EQ(gradient, expected) << block;
    }
  }
}

TEST(Relations, TrainingAndInferenceAgree) {
  const Records records;
  const ModelConfig config = conv_config();
  const auto parameters = random_parameters(config, 7);
  TestModel<float> inference(config, parameters, cpu()), training(config, parameters, cpu(), true);
  EXPECT_EQ(inference.log_probs(records.batch()), training.log_probs(records.batch()));
}

TEST(Relations, ARecordDoesNotKnowItsCompany) {
  const Records records;
  const ModelConfig config = conv_config();
  TestModel<float> model(config, random_parameters(config, 8), cpu(2));
  const auto together = model.log_probs(
      {view(records.a, true, 0), view(records.b, false, 1), view(records.c, false, 2)});
  std::vector<float> alone = model.log_probs({view(records.a, true)});
  for (const auto* tokens : {&records.b, &records.c}) {
    const auto one = model.log_probs({view(*tokens, false)});
    alone.insert(alone.end(), one.begin(), one.end());
  }
  EXPECT_EQ(together, alone);
}

// Short records share tiles and blocks; some share a context too.
TEST(Relations, PackedRecordsAreAsAlone) {
  std::vector<std::vector<Token>> records;
  const int lengths[] = {150, 1, 127, 128, 129, 700, 3, 256, 257, 640, 2047, 2048, 2049, 5, 383};
  for (int i = 0; i < 45; ++i) {
    records.push_back(random_tokens(lengths[i * 7 % 15], static_cast<unsigned>(100 + i)));
  }
  std::vector<TokenView> batch;
  std::vector<std::vector<TokenView>> contexts;
  for (std::size_t i = 0; i < records.size(); ++i) {
    // Records 5, 6 and 7 of each ten are of one context.
    if (i == 0 || i % 10 < 6 || i % 10 > 7) contexts.emplace_back();
    const TokenView alone = view(records[i], i % 3 == 0);
    contexts.back().push_back(alone);
    batch.push_back(alone);
    batch.back().context = static_cast<std::int64_t>(contexts.size()) - 1;
  }
  for (const ModelConfig& config : {conv_config(), tiny_config(32, 2, 4)}) {
    const auto parameters = random_parameters(config, 18);
    std::vector<float> alone;
    TestModel<float> one(config, parameters, cpu());
    for (const auto& context : contexts) {
      const auto p = one.log_probs(context);
      alone.insert(alone.end(), p.begin(), p.end());
    }
    std::vector<std::int64_t> some;
    for (std::int64_t row = 2; row < TestModel<float>::row_count(batch); row += 7) {
      some.push_back(row);
    }
    for (int threads : {1, 3}) {
      for (int block : {128, 256, 512, 1024}) {
        TestModel<float> model(config, parameters, cpu(threads), false, block);
        EXPECT_EQ(model.log_probs(batch), alone) << threads << " threads, block " << block;
        const auto few = model.log_probs(batch, some);
        for (std::size_t i = 0; i < few.size(); ++i) {
          ASSERT_EQ(few[i], alone[static_cast<std::size_t>(some[i / 4] * 4) + i % 4]);
        }
      }
    }
  }
}

// A residual stream in bf16 rounds each value between sweeps by 2^-9 at most: results move a
// little, and depend on nothing else.
TEST(Relations, Bf16ResidualStream) {
  const Records records;
  const auto batch = records.batch();
  for (const ModelConfig& config : {conv_config(), tiny_config(32, 3, 4)}) {
    const auto parameters = random_parameters(config, 19);
    TestModel<float> wide(config, parameters, cpu());
    const auto expected = wide.log_probs(batch);
    TestModel<float> narrow(config, parameters, cpu(), false, 128, true);
    const auto log_probs = narrow.log_probs(batch);
    const double moved = greatest_difference(log_probs, expected);
    EXPECT_GT(moved, 1e-5);
    EXPECT_LT(moved, 0.05);
    for (int block : {256, 2048}) {
      TestModel<float> model(config, parameters, cpu(3), false, block, true);
      EXPECT_EQ(model.log_probs(batch), log_probs) << block;
      for (int layer : {0, 1, 3}) {
        EXPECT_EQ(model.hidden(batch, layer), narrow.hidden(batch, layer)) << block;
      }
    }
  }
}

TEST(Relations, RowsAskedForAreRowsOfAll) {
  const Records records;
  const ModelConfig config = conv_config();
  TestModel<float> model(config, random_parameters(config, 9), cpu());
  const auto all = model.log_probs(records.batch());
  for (const std::vector<std::int64_t>& rows : {std::vector<std::int64_t>{},
                                                {0},
                                                {7179},
                                                {3, 4, 2047, 2048, 4999, 5000, 5130, 5131, 7179}}) {
    const auto some = model.log_probs(records.batch(), rows);
    for (std::size_t i = 0; i < rows.size(); ++i) {
      for (std::size_t base = 0; base < 4; ++base) {
        EXPECT_EQ(some[4 * i + base], all[4 * static_cast<std::size_t>(rows[i]) + base]) << rows[i];
      }
    }
  }
}

// Two records of one context see each other; the order of the records is no matter.
TEST(Relations, AContextIsShared) {
  const Records records;
  const ModelConfig config = tiny_config(16, 2, 4);
  TestModel<double> model(config, random_parameters(config, 10),
                          kernels::make_ref_backend<double>());
  const auto rows = static_cast<std::ptrdiff_t>(4 * records.b.size());
  const auto b_then_c = model.log_probs({view(records.b, false), view(records.c, false)});
  const auto c_then_b = model.log_probs({view(records.c, false), view(records.b, false)});
  const auto b_alone = model.log_probs({view(records.b, false)});
  const std::vector<double> first(b_then_c.begin(), b_then_c.begin() + rows);
  const std::vector<double> second(c_then_b.end() - rows, c_then_b.end());
  EXPECT_LT(greatest_difference(first, second), 1e-12);
  EXPECT_GT(greatest_difference(first, b_alone), 1e-6);
}

template <class T>
double rotation_difference(TestModel<T>& model, const std::vector<Token>& tokens,
                           std::int64_t shift) {
  std::vector<Token> rotated = tokens;
  std::rotate(rotated.begin(), rotated.begin() + shift, rotated.end());
  std::vector<T> expected = model.log_probs({view(tokens, true)});
  std::rotate(expected.begin(), expected.begin() + 4 * shift, expected.end());
  return greatest_difference(model.log_probs({view(rotated, true)}), expected);
}

TEST(Relations, RotationRotates) {
  const ModelConfig config = conv_config();
  const auto parameters = random_parameters(config, 11);
  TestModel<double> exact(config, parameters, kernels::make_ref_backend<double>());
  TestModel<float> fast(config, parameters, cpu(2));
  for (std::int64_t length : {3, 50, 2048, 2500}) {
    const auto tokens = random_tokens(length, 12);
    for (std::int64_t shift : {std::int64_t{1}, length / 2}) {
      EXPECT_LT(rotation_difference(exact, tokens, shift), 1e-12) << length << " by " << shift;
      // Only the order of the sums of the attention state differs.
      EXPECT_LT(rotation_difference(fast, tokens, shift), 5e-6) << length << " by " << shift;
    }
  }
}

// A linear sequence is not a circle.
TEST(Relations, TheEndsMatter) {
  const ModelConfig config = conv_config();
  TestModel<float> model(config, random_parameters(config, 13), cpu());
  const auto tokens = random_tokens(500, 14);
  EXPECT_GT(greatest_difference(model.log_probs({view(tokens, true)}),
                                model.log_probs({view(tokens, false)})),
            1e-3);
}

// Any length, and the cpu backend near `ref` in double on each.
TEST(Relations, AnyLength) {
  const ModelConfig config = tiny_config(16, 2, 4, {{9, 1}, {9, 200}});
  const auto parameters = random_parameters(config, 15);
  TestModel<double> exact(config, parameters, kernels::make_ref_backend<double>());
  TestModel<float> fast(config, parameters, cpu(2));
  for (std::int64_t length :
       {std::int64_t{1}, std::int64_t{2}, std::int64_t{3}, std::int64_t{7}, std::int64_t{127},
        std::int64_t{129}, kTileRows - 1, kTileRows, kTileRows + 1, 2 * kTileRows + 1}) {
    const auto tokens = random_tokens(length, 16);
    for (bool circular : {false, true}) {
      const auto expected = exact.log_probs({view(tokens, circular)});
      const auto actual = fast.log_probs({view(tokens, circular)});
      const std::vector<double> wide(actual.begin(), actual.end());
      EXPECT_LT(greatest_difference(wide, expected), 1e-5) << length;
      for (std::size_t i = 0; i < expected.size(); i += 4) {
        double sum = 0;
        for (std::size_t base = 0; base < 4; ++base) sum += std::exp(expected[i + base]);
        EXPECT_NEAR(sum, 1, 1e-12);
      }
    }
  }
}

TEST(Relations, NothingButN) {
  const ModelConfig config = conv_config();
  TestModel<float> model(config, random_parameters(config, 17), cpu());
  const std::vector<Token> tokens(3000, kTokenN);
  const auto log_probs = model.log_probs({view(tokens, true)});
  for (std::size_t i = 4; i < log_probs.size(); ++i) {
    ASSERT_TRUE(std::isfinite(log_probs[i]));
    ASSERT_NEAR(log_probs[i], log_probs[i % 4], 1e-5);  // all rows are alike
  }
}

}  // namespace
}  // namespace m5
