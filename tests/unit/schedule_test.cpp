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
  EXPECT_EQ(make_curriculum({8, 4}, {1, 2}, {90, 30}),
            (std::vector<Stage>{{8, 1, 90}, {4, 2, 30}}));
  EXPECT_EQ(total_steps(make_curriculum({1, 2, 3}, {11})), 11);
}

TEST(Curriculum, RefusesWhatDoesNotFit) {
  EXPECT_THROW(make_curriculum({}, {1}), Error);
  EXPECT_THROW(make_curriculum({0}, {1}), Error);
  EXPECT_THROW(make_curriculum({4}, {0}), Error);
  EXPECT_THROW(make_curriculum({4}, {1}, {0}), Error);
  EXPECT_THROW(make_curriculum({4}, {1}, {1, 2}), Error);
  EXPECT_THROW(make_curriculum({4}, {1}, {}), Error);
  EXPECT_THROW(make_curriculum({4}, {1}, {2'000'000'000'000}), Error);
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

TEST(LearningRate, FallsAsALineOrInTheLastThreeTenths) {
  LearningRate rate{
      .peak = 2, .min_fraction = 0.1, .warmup = 4, .total = 24, .decay = Decay::kLinear};
  EXPECT_DOUBLE_EQ(rate.at(2), 1);
  EXPECT_DOUBLE_EQ(rate.at(4), 2);
  EXPECT_DOUBLE_EQ(rate.at(9), 2 * (0.1 + 0.9 * 0.75));
  EXPECT_DOUBLE_EQ(rate.at(24), 0.2);
  rate.decay = Decay::kTrapezoid;
  EXPECT_DOUBLE_EQ(rate.at(2), 1);
  for (std::int64_t step = 4; step <= 18; ++step) EXPECT_DOUBLE_EQ(rate.at(step), 2) << step;
  EXPECT_NEAR(rate.at(21), 2 * (0.1 + 0.9 * 0.5), 1e-12);
  EXPECT_DOUBLE_EQ(rate.at(24), 0.2);
  for (const Decay decay : {Decay::kCosine, Decay::kLinear, Decay::kTrapezoid}) {
    EXPECT_EQ(decay_named(name_of(decay)), decay);
  }
  EXPECT_THROW(decay_named("step"), Error);
}

TEST(LearningRate, WarmupNoneOrLongerThanTheRun) {
  EXPECT_DOUBLE_EQ((LearningRate{1, 0, 0, 2}.at(1)), 0.5);
  EXPECT_DOUBLE_EQ((LearningRate{1, 0, 0, 2}.at(2)), 0);
  EXPECT_DOUBLE_EQ((LearningRate{1, 0.1, 100, 10}.at(10)), 0.1);
  EXPECT_DOUBLE_EQ((LearningRate{1, 0.1, 10, 10}.at(10)), 1);
}

TEST(TrainSettings, PlansTokensAndWindows) {
  TrainSettings settings;
  settings.curriculum = make_curriculum({100, 1000}, {3, 2}, {250});
  settings.accumulate = 2;
  EXPECT_EQ(settings.curriculum[0].windows(), 2);
  EXPECT_EQ(settings.curriculum[1].windows(), 1);  // at least one
  EXPECT_EQ(settings.planned_tokens(), 3 * 2 * 200 + 2 * 2 * 1000);
  EXPECT_EQ(settings.steps(), 5);
  settings.curriculum = make_curriculum({100, 1000}, {3, 2}, {250, 4000});
  EXPECT_EQ(settings.planned_tokens(), 3 * 2 * 200 + 2 * 2 * 4000);
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
  expect_refused([](TrainSettings& s) { s.muon_learning_rate = 1; }, "--muon-lr");  // but AdamW
  expect_refused(
      [&](TrainSettings& s) {
        s.optimizer = MatrixOptimizer::kMuon;
        s.muon_learning_rate = nan;
      },
      "--muon-lr");
  expect_refused([](TrainSettings& s) { s.key_query_factor = -1; }, "--qk-lr");
  expect_refused([](TrainSettings& s) { s.average = 1; }, "--ema");
  expect_refused([](TrainSettings& s) { s.mask.every = -1; }, "--mask-every");
  expect_refused([](TrainSettings& s) { s.mask.rate = 0; }, "--mask-rate");
  expect_refused([](TrainSettings& s) { s.reverse_complement = 2; }, "--reverse-complement");
}

}  // namespace
}  // namespace m5
