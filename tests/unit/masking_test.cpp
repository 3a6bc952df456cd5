#include "train/masking.hpp"

#include <gtest/gtest.h>

#include <array>
#include <limits>

#include "base/random.hpp"
#include "m5/error.hpp"
#include "train/batch.hpp"

namespace m5 {
namespace {

std::vector<Token> random_sequence(std::size_t length) {
  std::vector<Token> tokens;
  for (std::size_t i = 0; i < length; ++i) {
    tokens.push_back(static_cast<Token>(uniform_below(11, i, kBases)));
  }
  return tokens;
}

TEST(Masking, SharesAndSubstitutesAreAsAskedFor) {
  constexpr std::size_t kLength = 200000;
  const std::vector<Token> original = random_sequence(kLength);
  std::vector<Token> tokens = original;
  Objective objective;
  mask_window({1, 1, 0}, {}, 1000, tokens, objective);
  std::array<int, 3> kinds{};
  std::array<int, 4> shifts{};
  std::size_t next = 0;
  for (std::size_t i = 0; i < kLength; ++i) {
    const bool chosen =
        next < objective.rows.size() && objective.rows[next] == static_cast<std::int64_t>(1000 + i);
    if (!chosen) {
      ASSERT_EQ(tokens[i], original[i]);
      continue;
    }
    ASSERT_EQ(objective.targets[next], original[i]);
    const TargetKind kind = objective.kinds[next++];
    ++kinds[static_cast<std::size_t>(kind)];
    if (kind == TargetKind::kMasked) {
      ASSERT_EQ(tokens[i], kTokenMask);
    } else if (kind == TargetKind::kKept) {
      ASSERT_EQ(tokens[i], original[i]);
    } else {
      ASSERT_TRUE(is_base(tokens[i]));
      ASSERT_NE(tokens[i], original[i]);
      ++shifts[static_cast<std::size_t>((tokens[i] - original[i] + 4) % 4)];
    }
  }
  EXPECT_EQ(next, objective.rows.size());  // ascending, and all of them met
  // Six standard deviations of binomial counts.
  EXPECT_NEAR(static_cast<double>(next), 30000, 960);
  EXPECT_NEAR(kinds[0], 24000, 900);
  EXPECT_NEAR(kinds[1], 3000, 330);
  EXPECT_NEAR(kinds[2], 3000, 330);
  for (std::size_t shift = 1; shift < 4; ++shift) EXPECT_NEAR(shifts[shift], 1000, 190);
}

TEST(Masking, ChoosesBasesOnlyAndCanChooseNone) {
  std::vector<Token> tokens(5000, kTokenN);
  Objective objective;
  mask_window({1, 1, 0}, {.rate = 1}, 0, tokens, objective);
  EXPECT_TRUE(objective.rows.empty());
  EXPECT_EQ(tokens, std::vector<Token>(5000, kTokenN));
}

TEST(Masking, RateAndSharesAtTheirEnds) {
  const std::vector<Token> original = random_sequence(3000);
  for (const TargetKind kind : {TargetKind::kMasked, TargetKind::kSubstituted, TargetKind::kKept}) {
    std::vector<Token> tokens = original;
    Objective objective;
    MaskOptions options{.rate = 1, .masked = 0, .substituted = 0, .kept = 0};
    (kind == TargetKind::kMasked        ? options.masked
     : kind == TargetKind::kSubstituted ? options.substituted
                                        : options.kept) = 1;
    mask_window({3, 1, 0}, options, 0, tokens, objective);
    ASSERT_EQ(objective.rows.size(), original.size());
    for (const TargetKind k : objective.kinds) ASSERT_EQ(k, kind);
  }
}

// As m5 score lays them: every K-th base of a window, and no other, from any of K first ones.
TEST(Masking, EveryKthBaseFromARandomPhase) {
  std::vector<Token> original = random_sequence(400);
  original[100] = original[101] = original[102] = kTokenN;
  for (const std::int64_t every : {1, 2, 7, 1000}) {
    std::array<int, 7> phases{};
    for (std::int64_t window = 0; window < 200; ++window) {
      std::vector<Token> tokens = original;
      Objective objective;
      const MaskOptions options{.every = every, .masked = 1, .substituted = 0, .kept = 0};
      mask_window({5, 1, window}, options, 0, tokens, objective);
      if (objective.rows.empty()) {  // a phase beyond the window
        EXPECT_EQ(every, 1000);
        continue;
      }
      const std::int64_t phase = objective.rows[0] % every;
      std::vector<std::int64_t> expected;
      for (std::int64_t i = phase; i < 400; i += every) {
        if (i < 100 || i > 102) expected.push_back(i);
      }
      ASSERT_EQ(objective.rows, expected) << every;
      for (std::size_t i = 0; i < 400; ++i) {
        const bool chosen = static_cast<std::int64_t>(i) % every == phase && original[i] != kTokenN;
        ASSERT_EQ(tokens[i], chosen ? kTokenMask : original[i]);
      }
      ++phases[static_cast<std::size_t>(phase % 7)];
    }
    if (every == 7) {
      for (const int count : phases) EXPECT_GT(count, 5);  // of 28.6 on average
    }
  }
}

TEST(Masking, DependsOnTheWindowIdAlone) {
  const std::vector<Token> original = random_sequence(2000);
  const auto masked = [&](const WindowId& id) {
    std::vector<Token> tokens = original;
    Objective objective;
    mask_window(id, {}, 0, tokens, objective);
    return tokens;
  };
  EXPECT_EQ(masked({1, 2, 3}), masked({1, 2, 3}));
  EXPECT_NE(masked({1, 2, 3}), masked({2, 2, 3}));
  EXPECT_NE(masked({1, 2, 3}), masked({1, 3, 3}));
  EXPECT_NE(masked({1, 2, 3}), masked({1, 2, 4}));
  EXPECT_NE(masked({1, 2, 3}), masked({1, 3, 2}));
}

TEST(Masking, RefusesOptionsOutOfRange) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const MaskOptions& bad :
       {MaskOptions{.rate = 0}, MaskOptions{.rate = 1.1}, MaskOptions{.rate = nan},
        MaskOptions{.masked = 0.7}, MaskOptions{.masked = 1.1, .kept = -0.2},
        MaskOptions{.masked = nan}}) {
    EXPECT_THROW(check_mask_options(bad), Error);
  }
  check_mask_options({});
}

TEST(Batch, IsMadeOfWindowsInOrderEachItsOwnContext) {
  GenomeStore store;
  store.add("a", random_sequence(500), false);
  store.add("b", random_sequence(40), true);
  Batch batch(store);
  batch.add({.record = 0, .start = 10, .length = 100}, {1, 1, 0}, {.rate = 0.5});
  batch.add({.record = 1, .start = 0, .length = 40, .circular = true}, {1, 1, 1}, {.rate = 0.5});
  const std::vector<TokenView> views = batch.views();
  ASSERT_EQ(views.size(), 2u);
  EXPECT_EQ(views[0].tokens, batch.tokens().data());
  EXPECT_EQ(views[1].tokens, batch.tokens().data() + 100);
  EXPECT_EQ(views[1].length, 40);
  EXPECT_EQ(views[0].context, 0);
  EXPECT_EQ(views[1].context, 1);
  EXPECT_FALSE(views[0].circular);
  EXPECT_TRUE(views[1].circular);
  EXPECT_EQ(batch.rows(), 140);
  const Objective& objective = batch.objective();
  ASSERT_GT(objective.rows.size(), 40u);
  for (std::size_t i = 0; i < objective.rows.size(); ++i) {
    const std::int64_t row = objective.rows[i];
    if (i > 0) {
      ASSERT_GT(row, objective.rows[i - 1]);
    }
    const GenomeRecord& record = store.records[row < 100 ? 0 : 1];
    ASSERT_EQ(objective.targets[i], store.begin_of(record)[row < 100 ? row + 10 : row - 100]);
  }
  batch.clear();
  EXPECT_EQ(batch.rows(), 0);
  EXPECT_TRUE(batch.objective().rows.empty());
}

// The windows of a step do not depend on how it is split into micro-batches: two of B windows hold
// what one of 2B holds.
TEST(Batch, SplitIntoMicroBatchesKeepsTokensAndTargets) {
  GenomeStore store;
  store.add("a", random_sequence(5000), true);
  const WindowSampler sampler(store, 0.5);
  const auto fill = [&](Batch& batch, std::int64_t first, std::int64_t count) {
    for (std::int64_t i = first; i < first + count; ++i) {
      const WindowId id{9, 4, i};
      batch.add(sampler.draw(id, 64), id, {});
    }
  };
  Batch one(store), front(store), back(store);
  fill(one, 0, 8);
  fill(front, 0, 4);
  fill(back, 4, 4);
  std::vector<Token> joined = front.tokens();
  joined.insert(joined.end(), back.tokens().begin(), back.tokens().end());
  EXPECT_EQ(one.tokens(), joined);
  std::vector<std::uint8_t> targets = front.objective().targets;
  targets.insert(targets.end(), back.objective().targets.begin(), back.objective().targets.end());
  EXPECT_EQ(one.objective().targets, targets);
}

}  // namespace
}  // namespace m5
