#include "nn/scoring.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "m5/error.hpp"
#include "m5/model.hpp"

namespace m5 {
namespace {

Model tiny_model() {
  ModelConfig config;
  config.dim = 16;
  config.layers = 2;
  config.heads = 8;
  config.ff_dim = 32;
  config.order = 2;
  config.bound = 1.0;
  config.window = 3;
  config.validate();
  Model model = initial_model(config, 5);
  for (float& value : model.parameters) value *= 2.0f;
  return model;
}

std::vector<Token> random_tokens(int length, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<Token> tokens;
  for (int i = 0; i < length; ++i) tokens.push_back(static_cast<Token>(random() % 5));
  return tokens;
}

TokenView view_of(const std::vector<Token>& tokens, std::int64_t context) {
  return {tokens.data(), static_cast<std::int64_t>(tokens.size()), false, context};
}

TEST(Scoring, HidesEveryKthPositionOfEachRecordAndNothingElse) {
  const Model model = tiny_model();
  Session session(model, {});
  const std::vector<Token> a = random_tokens(300, 1), b = random_tokens(157, 2);
  for (const std::int64_t second_context : {0, 1}) {
    const std::vector<TokenView> views = {view_of(a, 0), view_of(b, second_context)};
    ScoringOptions options;
    options.passes = 5;
    options.all_bases = true;
    std::int64_t rows = 0;
    const std::vector<SequenceScores> scores =
        score_sequences(session, views, options, [&](std::int64_t n) { rows += n; });
    EXPECT_EQ(rows, 5 * (300 + 157));
    ASSERT_EQ(scores.size(), 2u);
    for (int pass = 0; pass < 5; ++pass) {
      std::vector<Token> x = a, y = b;
      std::vector<std::int64_t> hidden;
      for (std::size_t i = 0; i < x.size(); ++i) {
        if (i % 5 == static_cast<std::size_t>(pass) && is_base(x[i])) {
          x[i] = kTokenMask;
          hidden.push_back(static_cast<std::int64_t>(i));
        }
      }
      for (std::size_t i = 0; i < y.size(); ++i) {
        if (i % 5 == static_cast<std::size_t>(pass) && is_base(y[i])) {
          y[i] = kTokenMask;
          hidden.push_back(static_cast<std::int64_t>(300 + i));
        }
      }
      const std::vector<TokenView> masked = {view_of(x, 0), view_of(y, second_context)};
      std::vector<float> want(hidden.size() * kBases);
      session.log_probs(masked, hidden, want.data());
      for (std::size_t h = 0; h < hidden.size(); ++h) {
        const bool first = hidden[h] < 300;
        const auto at = static_cast<std::size_t>(first ? hidden[h] : hidden[h] - 300);
        const SequenceScores& got = scores[first ? 0 : 1];
        const Token base = first ? a[at] : b[at];
        ASSERT_EQ(got.log_p[at], want[h * kBases + base]);
        for (std::size_t c = 0; c < kBases; ++c) {
          ASSERT_EQ(got.log_probs[at * kBases + c], want[h * kBases + c]);
        }
      }
    }
    for (std::size_t i = 0; i < a.size(); ++i) {
      ASSERT_EQ(std::isnan(scores[0].log_p[i]), !is_base(a[i]));
    }
  }
}

TEST(Scoring, BothStrandsMirrorBitForBit) {
  const Model model = tiny_model();
  Session session(model, {});
  const std::vector<Token> forward = random_tokens(261, 3);  // 261 is no multiple of 7
  std::vector<Token> reverse;
  for (std::size_t i = forward.size(); i-- > 0;) reverse.push_back(complement(forward[i]));
  ScoringOptions options;
  options.strand = Strand::kBoth;
  options.all_bases = true;
  const TokenView forward_view = view_of(forward, 0), reverse_view = view_of(reverse, 0);
  const auto x = score_sequences(session, {&forward_view, 1}, options);
  const auto y = score_sequences(session, {&reverse_view, 1}, options);
  for (std::size_t i = 0; i < forward.size(); ++i) {
    if (!is_base(forward[i])) continue;
    const std::size_t j = forward.size() - 1 - i;
    ASSERT_EQ(x[0].log_p[i], y[0].log_p[j]);
    double sum = 0;
    for (std::size_t c = 0; c < kBases; ++c) {
      ASSERT_EQ(x[0].log_probs[i * kBases + c], y[0].log_probs[j * kBases + 3 - c]);
      sum += std::exp(static_cast<double>(x[0].log_probs[i * kBases + c]));
    }
    ASSERT_NEAR(sum, 1.0, 1e-6);
    ASSERT_EQ(entropy_bits(&x[0].log_probs[i * kBases]), entropy_bits(&y[0].log_probs[j * kBases]));
  }
}

TEST(Scoring, UnmaskedHidesNothing) {
  const Model model = tiny_model();
  Session session(model, {});
  const std::vector<Token> tokens = random_tokens(100, 4);
  const TokenView view = view_of(tokens, 0);
  std::vector<std::int64_t> rows;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    if (is_base(tokens[i])) rows.push_back(static_cast<std::int64_t>(i));
  }
  std::vector<float> want(rows.size() * kBases);
  session.log_probs({&view, 1}, rows, want.data());
  ScoringOptions options;
  options.unmasked = true;
  const auto scores = score_sequences(session, {&view, 1}, options);
  for (std::size_t r = 0; r < rows.size(); ++r) {
    const auto at = static_cast<std::size_t>(rows[r]);
    ASSERT_EQ(scores[0].log_p[at], want[r * kBases + tokens[at]]);
  }
  EXPECT_TRUE(scores[0].log_probs.empty());
}

TEST(Session, TellsOfEveryLayer) {
  const Model model = tiny_model();
  Session session(model, {});
  const std::vector<Token> tokens = random_tokens(100, 4);
  const TokenView view = view_of(tokens, 0);
  const auto no_rows = [](std::int64_t, int, const float*) {};
  std::vector<int> done;
  session.on_layer([&](int layer, int of) {
    EXPECT_EQ(of, 2);
    done.push_back(layer);
  });
  const std::int64_t row = 0;
  float log_probs[kBases];
  session.log_probs({&view, 1}, {&row, 1}, log_probs);
  EXPECT_EQ(done, (std::vector<int>{1, 2}));
  done.clear();
  session.hidden({&view, 1}, 2, no_rows);
  EXPECT_EQ(done, (std::vector<int>{1, 2}));
  // An exception ends the pass; the session can go on.
  session.on_layer([](int, int) { throw Error(ErrorKind::kIo, "stop"); });
  EXPECT_THROW(session.hidden({&view, 1}, 2, no_rows), Error);
  session.on_layer({});
  float again[kBases];
  session.log_probs({&view, 1}, {&row, 1}, again);
  for (int b = 0; b < kBases; ++b) EXPECT_EQ(again[b], log_probs[b]);
}

}  // namespace
}  // namespace m5
