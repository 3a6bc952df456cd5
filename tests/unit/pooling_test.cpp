#include "nn/pooling.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <random>
#include <stdexcept>
#include <thread>

#include "base/thread_pool.hpp"

namespace m5 {
namespace {

constexpr int kDim = 3;

struct World {
  std::vector<std::vector<Token>> tokens;
  std::vector<TokenView> views;
  std::vector<float> values;  // [rows][kDim]
  std::vector<std::int64_t> first_row;

  explicit World(const std::vector<std::int64_t>& lengths) {
    std::mt19937 random(7);
    std::int64_t rows = 0;
    for (const std::int64_t length : lengths) {
      tokens.emplace_back();
      for (std::int64_t i = 0; i < length; ++i) {
        tokens.back().push_back(static_cast<Token>(random() % 5));  // one in five is N
      }
      first_row.push_back(rows);
      rows += length;
    }
    for (const auto& t : tokens) {
      views.push_back({t.data(), static_cast<std::int64_t>(t.size()), true, 0});
    }
    std::uniform_real_distribution<float> uniform(-1, 1);
    for (std::int64_t i = 0; i < rows * kDim; ++i) values.push_back(uniform(random));
  }

  // Every block of `block` rows, in a random order.
  void feed(Pooler& pooler, std::int64_t block, unsigned seed) const {
    std::vector<std::pair<std::int64_t, int>> blocks;
    for (std::size_t s = 0; s < views.size(); ++s) {
      for (std::int64_t i = 0; i < views[s].length; i += block) {
        blocks.emplace_back(first_row[s] + i,
                            static_cast<int>(std::min(block, views[s].length - i)));
      }
    }
    std::shuffle(blocks.begin(), blocks.end(), std::mt19937(seed));
    for (const auto& [row, n] : blocks) pooler.add(row, n, values.data() + row * kDim);
  }
};

const std::vector<std::int64_t> kLengths = {1, 127, 128, 129, 1000, 300};

std::vector<PoolInterval> random_intervals() {
  std::vector<PoolInterval> intervals;
  std::mt19937 random(3);
  for (int i = 0; i < 300; ++i) {
    PoolInterval interval;
    interval.sequence = static_cast<std::int64_t>(random() % kLengths.size());
    const std::int64_t length = kLengths[static_cast<std::size_t>(interval.sequence)];
    interval.begin = static_cast<std::int64_t>(random()) % length;
    interval.end = interval.begin + 1 + static_cast<std::int64_t>(random()) % length;  // may wrap
    intervals.push_back(interval);
  }
  return intervals;
}

TEST(Pooler, EqualsPlainSumsOverTheScoredRows) {
  const World world(kLengths);
  const auto intervals = random_intervals();
  for (const Pool pool : {Pool::kMean, Pool::kMax, Pool::kStd}) {
    Pooler pooler(world.views, intervals, kDim, pool);
    world.feed(pooler, 256, 1);
    for (std::size_t i = 0; i < intervals.size(); ++i) {
      const auto s = static_cast<std::size_t>(intervals[i].sequence);
      std::int64_t count = 0;
      double sum[kDim] = {0, 0, 0}, squares[kDim] = {0, 0, 0}, most[kDim] = {-9, -9, -9};
      for (std::int64_t p = intervals[i].begin; p < intervals[i].end; ++p) {
        const std::int64_t position = p % world.views[s].length;
        if (!is_base(world.views[s].tokens[position])) continue;
        ++count;
        for (int c = 0; c < kDim; ++c) {
          const double value =
              world.values[static_cast<std::size_t>((world.first_row[s] + position) * kDim + c)];
          sum[c] += value;
          squares[c] += value * value;  // no loss in double: the values are about 1
          most[c] = std::max(most[c], value);
        }
      }
      float got[kDim];
      ASSERT_EQ(pooler.result(i, got), count);
      const auto n = static_cast<double>(count);
      for (int c = 0; c < kDim; ++c) {
        const double want = count == 0            ? 0
                            : pool == Pool::kMean ? sum[c] / n
                            : pool == Pool::kMax
                                ? most[c]
                                : std::sqrt(std::max(0.0, squares[c] - sum[c] * sum[c] / n) / n);
        // The root of a difference of 1e-16 that should be none (one base) is 1e-8.
        ASSERT_NEAR(got[c], want, 1e-6) << "interval " << i;
      }
    }
  }
}

// Far from zero and close together: a difference of sums of squares in double, or of floats, would
// have no digit left. 1e7 + {0, 1, 2, 3} are floats; their deviation is that of {0, 1, 2, 3}.
TEST(Pooler, StdOfValuesFarFromZero) {
  for (const std::int64_t length : {1, 2, 100, 128, 129, 5000}) {
    const std::vector<Token> tokens(static_cast<std::size_t>(length), kTokenG);
    const std::vector<TokenView> views = {{tokens.data(), length, false, 0}};
    std::vector<float> values;
    double sum = 0, squares = 0;
    for (std::int64_t i = 0; i < length * kDim; ++i) {
      const std::int64_t small = i / kDim * 7 % 4;
      values.push_back(i % kDim == 1 ? 5e8f : 1e7f + static_cast<float>(small));
      if (i % kDim != 0) continue;
      sum += static_cast<double>(small);
      squares += static_cast<double>(small * small);
    }
    Pooler pooler(views, {{0, 0, length}}, kDim, Pool::kStd);
    for (std::int64_t row = 0; row < length; row += 256) {
      pooler.add(row, static_cast<int>(std::min<std::int64_t>(256, length - row)),
                 values.data() + row * kDim);
    }
    float got[kDim];
    ASSERT_EQ(pooler.result(0, got), length);
    const auto n = static_cast<double>(length);
    // Means near 1e7 are exact to 2e-9; the rest is the rounding to float.
    EXPECT_NEAR(got[0], std::sqrt((squares - sum * sum / n) / n), 1e-6) << length;
    EXPECT_EQ(got[1], 0.0f) << length;
    EXPECT_EQ(got[2], got[0]) << length;
  }
}

TEST(Pooler, BitsDoNotDependOnOrderOrBlockSize) {
  const World world(kLengths);
  const auto intervals = random_intervals();
  for (const Pool pool : {Pool::kMean, Pool::kMax, Pool::kStd}) {
    std::vector<float> first;
    for (const auto& [block, seed] : {std::pair{128, 1u}, {128, 2u}, {512, 3u}, {2048, 4u}}) {
      Pooler pooler(world.views, intervals, kDim, pool);
      world.feed(pooler, block, seed);
      std::vector<float> all(intervals.size() * kDim);
      for (std::size_t i = 0; i < intervals.size(); ++i) pooler.result(i, all.data() + i * kDim);
      if (first.empty()) first = all;
      EXPECT_EQ(all, first);
    }
  }
}

// A row of several intervals, and of several sequences: as if they were one.
TEST(Pooler, SumsOfSeveralIntervals) {
  const World world(kLengths);
  const std::vector<PoolInterval> parts = {
      {4, 10, 400}, {4, 777, 790}, {5, 0, 300}, {4, 990, 1020}};
  for (const Pool pool : {Pool::kMean, Pool::kMax, Pool::kStd}) {
    Pooler pooler(world.views, parts, kDim, pool);
    world.feed(pooler, 256, 1);
    PoolSum sum;
    double total[kDim] = {0, 0, 0}, squares[kDim] = {0, 0, 0}, most[kDim] = {-9, -9, -9};
    for (std::size_t i = 0; i < parts.size(); ++i) {
      pooler.add_to(i, sum);
      const auto s = static_cast<std::size_t>(parts[i].sequence);
      for (std::int64_t p = parts[i].begin; p < parts[i].end; ++p) {
        const std::int64_t position = p % world.views[s].length;
        if (!is_base(world.views[s].tokens[position])) continue;
        for (int c = 0; c < kDim; ++c) {
          const double value =
              world.values[static_cast<std::size_t>((world.first_row[s] + position) * kDim + c)];
          total[c] += value;
          squares[c] += value * value;
          most[c] = std::max(most[c], value);
        }
      }
    }
    float got[kDim];
    Pooler::finish(pool, sum, got);
    const auto n = static_cast<double>(sum.bases);
    for (int c = 0; c < kDim; ++c) {
      const double want = pool == Pool::kMean ? total[c] / n
                          : pool == Pool::kMax
                              ? most[c]
                              : std::sqrt((squares[c] - total[c] * total[c] / n) / n);
      EXPECT_NEAR(got[c], want, 1e-6);
    }
  }
}

TEST(Pooler, NoBaseGivesZeros) {
  const std::vector<Token> tokens(10, kTokenN);
  const std::vector<TokenView> views = {{tokens.data(), 10, false, 0}};
  const std::vector<float> values(10 * kDim, 5.0f);
  for (const Pool pool : {Pool::kMean, Pool::kMax, Pool::kStd}) {
    Pooler pooler(views, {{0, 2, 7}}, kDim, pool);
    pooler.add(0, 10, values.data());
    float got[kDim];
    EXPECT_EQ(pooler.result(0, got), 0);
    for (const float value : got) EXPECT_EQ(value, 0.0f);
  }
}

TEST(RowOrder, PutsBlocksIntoOrder) {
  std::vector<float> got;
  RowOrder order(1, 100, [&](std::int64_t first, int n, const float* values) {
    EXPECT_EQ(first, static_cast<std::int64_t>(got.size()));
    got.insert(got.end(), values, values + n);
  });
  const float values[] = {0, 1, 2, 3, 4, 5};
  order.add(4, 2, values + 4);
  order.add(1, 1, values + 1);
  EXPECT_TRUE(got.empty());
  order.add(0, 1, values);
  order.add(2, 2, values + 2);
  EXPECT_EQ(got, std::vector<float>(values, values + 6));
}

// Block `bad` is not given, or its sink throws, when all others that may go ahead wait for it.
TEST(RowOrder, ABlockThatThrowsEndsTheRun) {
  constexpr std::int64_t kBlocks = 60;
  for (const int workers : {1, 2, 4}) {
    for (const std::int64_t bad : {0, 3, 17}) {
      for (const bool in_sink : {false, true}) {
        ThreadPool pool(workers);
        std::atomic<int> begun{0};
        std::int64_t rows = 0;
        RowOrder order(1, 2 * workers, [&](std::int64_t first, int n, const float*) {
          if (in_sink && first == bad) throw std::runtime_error("sink");
          rows += n;
        });
        const float value = 0;
        const auto run = [&] {
          pool.run(kBlocks, [&](int, std::int64_t block) {
            try {
              ++begun;
              if (block == bad) {
                const auto ahead = workers == 1 ? 0 : bad + workers;
                while (begun < ahead) std::this_thread::yield();
                if (!in_sink) throw std::runtime_error("block");
              }
              order.add(block, 1, &value);
            } catch (...) {
              order.give_up();
              throw;
            }
          });
        };
        EXPECT_THROW(run(), std::runtime_error);
        EXPECT_EQ(rows, bad);
      }
    }
  }
}

}  // namespace
}  // namespace m5
