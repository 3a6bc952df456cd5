// How a stretch stands among the windows of a genome, against plain sums over the bases.
#include "sinks/window_bits.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

namespace m5 {
namespace {

using Records = std::vector<SequenceScores>;

Records random_records(const std::vector<std::size_t>& lengths) {
  std::mt19937 random(5);
  Records records;
  for (const std::size_t length : lengths) {
    std::vector<float>& log_p = records.emplace_back().log_p;
    for (std::size_t i = 0; i < length; ++i) {
      // Long stretches without scores, and single ones.
      const bool none = (i / 50) % 7 == 3 || random() % 20 == 0;
      log_p.push_back(none ? std::numeric_limits<float>::quiet_NaN()
                           : -static_cast<float>(random() % 1000) / 300 -
                                 static_cast<float>(i % 400 > 200));
    }
  }
  return records;
}

std::vector<double> all_windows(const Records& records, std::int64_t nt) {
  std::vector<double> bits;
  for (const SequenceScores& record : records) {
    const auto length = static_cast<std::int64_t>(record.log_p.size());
    for (std::int64_t begin = 0; begin + nt <= length; begin += WindowBits::kStep) {
      double sum = 0;
      std::int64_t scored = 0;
      for (std::int64_t i = begin; i < begin + nt; ++i) {
        const float log_p = record.log_p[static_cast<std::size_t>(i)];
        if (std::isnan(log_p)) continue;
        sum -= static_cast<double>(log_p) / std::log(2.0);
        ++scored;
      }
      bits.push_back(2 * scored < nt ? std::nan("") : sum / static_cast<double>(scored));
    }
  }
  return bits;
}

void expect_place(WindowBits& genome, const std::vector<double>& windows, double bits,
                  std::int64_t nt) {
  double below = 0, count = 0, sum = 0, squares = 0;
  for (const double window : windows) {
    if (std::isnan(window)) continue;
    below += window < bits;
    ++count;
    sum += window;
  }
  for (const double window : windows) {
    if (!std::isnan(window)) squares += (window - sum / count) * (window - sum / count);
  }
  const WindowBits::Place place = genome.place(bits, nt);
  EXPECT_NEAR(place.percentile, 100 * below / count, 1e-9) << nt;
  EXPECT_NEAR(place.z_score, (bits - sum / count) / std::sqrt(squares / count), 1e-9) << nt;
}

TEST(WindowBits, AsPlainSumsSayIt) {
  const Records records = random_records({3000, 5, 16, 900, 1, 2049});
  WindowBits genome;
  for (int round = 0; round < 2; ++round) {  // again after clear()
    for (const SequenceScores& record : records) genome.add(record);
    for (const std::int64_t nt : {16, 17, 31, 32, 100, 640, 901, 2048, 2500}) {
      const auto windows = all_windows(records, nt / WindowBits::kStep * WindowBits::kStep);
      for (const double bits : {0.5, 2.9, 3.1, 9.0}) expect_place(genome, windows, bits, nt);
    }
    expect_place(genome, all_windows(records, 16), 2.0, 3);  // less than a step
    genome.clear();
  }
}

TEST(WindowBits, ManyPlacesAreThinnedEvenly) {
  const Records records = random_records({170000, 90, 100000, 200000});
  WindowBits genome;
  for (const SequenceScores& record : records) genome.add(record);
  const auto windows = all_windows(records, 160);
  const std::size_t stride = (windows.size() + WindowBits::kMost - 1) / WindowBits::kMost;
  ASSERT_EQ(stride, 3u);
  std::vector<double> some;
  for (std::size_t i = 0; i < windows.size(); i += stride) some.push_back(windows[i]);
  for (const double bits : {2.5, 3.0, 3.5}) expect_place(genome, some, bits, 160);
}

TEST(WindowBits, NothingIsSaidOfFewOrEqualWindows) {
  WindowBits genome;
  SequenceScores scores;
  scores.log_p.assign(16 * 20, -1.0f);
  genome.add(scores);
  EXPECT_TRUE(std::isnan(genome.place(1, 48).percentile));  // 18 windows
  EXPECT_EQ(genome.place(1, 16).percentile, 0);
  EXPECT_EQ(genome.place(2, 16).percentile, 100);
  EXPECT_TRUE(std::isnan(genome.place(2, 16).z_score));
  EXPECT_TRUE(std::isnan(genome.place(std::nan(""), 16).percentile));
  genome.clear();
  EXPECT_TRUE(std::isnan(genome.place(1, 16).percentile));
  for (int i = 0; i < 20; ++i) {  // powers of two: sums are exact, and equal ones count half
    scores.log_p.assign(16, -(i < 10 ? 0.5f : 1.0f));
    genome.add(scores);
  }
  EXPECT_EQ(genome.place(metric_from_nll(Metric::kBits, 0.5), 16).percentile, 25);
  EXPECT_EQ(genome.place(metric_from_nll(Metric::kBits, 1), 16).percentile, 75);
  EXPECT_NEAR(genome.place(metric_from_nll(Metric::kBits, 1), 16).z_score, 1, 1e-12);
}

}  // namespace
}  // namespace m5
