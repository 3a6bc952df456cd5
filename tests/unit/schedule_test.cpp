#include "train/schedule.hpp"

#include <gtest/gtest.h>

#include <limits>

#include "m5/error.hpp"
#include "train/settings.hpp"

namespace m5 {
namespace {

TEST(Curriculum, SplitsStepsOverLengths) {
  EXPECT_EQ(make_curriculum({4096}, {10}), (std::vector<Stage>{{4096, 10}}));
  EXPECT_EQ(make_curriculum({1, 2, 3}, {11}), (std::vector<Stage>{{1, 3}, {2, 3}, {3, 5}}));
  EXPECT_EQ(make_curriculum({8, 4}, {1, 2}), (std::vector<Stage>{{8, 1}, {4, 2}}));
  EXPECT_EQ(total_steps(make_curriculum({1, 2, 3}, {11})), 11);
}

TEST(Curriculum, RefusesWhatDoesNotFit) {
  EXPECT_THROW(make_curriculum({}, {1}), Error);
  EXPECT_THROW(make_curriculum({0}, {1}), Error);
  EXPECT_THROW(make_curriculum({4}, {0}), Error);
  EXPECT_THROW(make_curriculum({4, 5}, {1}), Error);  // no step left for the first length
  EXPECT_THROW(make_curriculum({4, 5}, {1, 2, 3}), Error);
  EXPECT_THROW(make_curriculum({4}, {std::numeric_limits<std::int64_t>::max()}), Error);
}

TEST(Curriculum, StageOfEveryStep) {
  const std::vector<Stage> curriculum = make_curriculum({10, 20, 30}, {2, 1, 2});
  const std::int64_t lengths[] = {10, 10, 20, 30, 30};
  for (std::int64_t step = 1; step <= 5; ++step) {
    EXPECT_EQ(stage_of(curriculum, step).segment_length, lengths[step - 1]) << step;
  }
}

TEST(LearningRate, WarmsUpThenFallsAsACosine) {
  const LearningRate rate{.peak = 2, .min_fraction = 0.1, .warmup = 4, .total = 24};
  EXPECT_DOUBLE_EQ(rate.at(1), 0.5);
  EXPECT_DOUBLE_EQ(rate.at(2), 1);
  EXPECT_DOUBLE_EQ(rate.at(4), 2);
  EXPECT_DOUBLE_EQ(rate.at(14), 2 * (0.1 + 0.9 / 2));  // half way
  EXPECT_DOUBLE_EQ(rate.at(24), 0.2);
  for (std::int64_t step = 5; step <= 24; ++step) EXPECT_LT(rate.at(step), rate.at(step - 1));
}

TEST(LearningRate, WarmupNoneOrLongerThanTheRun) {
  EXPECT_DOUBLE_EQ((LearningRate{1, 0, 0, 2}.at(1)), 0.5);
  EXPECT_DOUBLE_EQ((LearningRate{1, 0, 0, 2}.at(2)), 0);
  EXPECT_DOUBLE_EQ((LearningRate{1, 0.1, 100, 10}.at(10)), 0.1);
  EXPECT_DOUBLE_EQ((LearningRate{1, 0.1, 10, 10}.at(10)), 1);
}

TEST(TrainSettings, PlansTokensAndWindows) {
  TrainSettings settings;
  settings.curriculum = make_curriculum({100, 1000}, {3, 2});
  settings.batch_tokens = 250;
  settings.accumulate = 2;
  EXPECT_EQ(settings.windows_per_batch(100), 2);
  EXPECT_EQ(settings.windows_per_batch(1000), 1);  // at least one
  EXPECT_EQ(settings.planned_tokens(), 3 * 2 * 200 + 2 * 2 * 1000);
  EXPECT_EQ(settings.steps(), 5);
}

TEST(TrainSettings, RefusesValuesOutOfRangeByName) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const auto expect_refused = [](auto change, const std::string& option) {
    TrainSettings settings;
    change(settings);
    try {
      settings.check();
      ADD_FAILURE() << option;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kUsage);
      EXPECT_EQ(std::string(error.what()).rfind(option + ":", 0), 0u) << error.what();
    }
  };
  TrainSettings{}.check();
  expect_refused([&](TrainSettings& s) { s.learning_rate = nan; }, "--lr");
  expect_refused([](TrainSettings& s) { s.learning_rate = 0; }, "--lr");
  expect_refused([](TrainSettings& s) { s.learning_rate = 1e300; }, "--lr");
  expect_refused([](TrainSettings& s) { s.min_learning_rate = 1.5; }, "--min-lr");
  expect_refused([](TrainSettings& s) { s.weight_decay = -1; }, "--weight-decay");
  expect_refused([](TrainSettings& s) { s.beta1 = 1; }, "--beta1");
  expect_refused([&](TrainSettings& s) { s.beta2 = nan; }, "--beta2");
  expect_refused([](TrainSettings& s) { s.clip = -1; }, "--clip");
  expect_refused([](TrainSettings& s) { s.accumulate = 0; }, "--accumulate");
  expect_refused([](TrainSettings& s) { s.batch_tokens = 0; }, "--batch-tokens");
  expect_refused([](TrainSettings& s) { s.mask.rate = 0; }, "--mask-rate");
  expect_refused([](TrainSettings& s) { s.reverse_complement = 2; }, "--reverse-complement");
}

}  // namespace
}  // namespace m5
