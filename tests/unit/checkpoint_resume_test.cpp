// Whole training runs of a tiny model: interruption, threads, micro-batches, failures.
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>

#include "tests/unit/temp_dir.hpp"
#include "tests/unit/tiny_training.hpp"
#include "train/checkpoint.hpp"
#include "train/trainer.hpp"
#include "train/training.hpp"

namespace m5 {
namespace {

using test::get;
using test::TempDir;
using test::tiny_config;
using test::tiny_store;

class TrainingTest : public testing::Test {
 protected:
  TrainingTest() {
    run_.settings.config = tiny_config();
    run_.settings.curriculum = make_curriculum({64, 300}, {12, 8}, {256});
    run_.settings.warmup = 4;
    run_.settings.learning_rate = 1e-2;
    run_.training = &store_;
    run_.validation = &validation_;
    run_.validate_every = 7;
    run_.validation_tokens = 500;
    run_.checkpoint_every = 4;
    run_.checkpoint = dir_ / "ckpt";
    run_.log = dir_ / "log";
  }

  // Every option that adds state or randomness of its own, at once.
  void turn_everything_on() {
    run_.settings.curriculum = make_curriculum({64, 300}, {12, 8}, {256, 600});
    run_.settings.optimizer = MatrixOptimizer::kMuon;
    run_.settings.muon_learning_rate = 2e-2;
    run_.settings.key_query_factor = 3;
    run_.settings.average = 0.7;
    run_.settings.decay = Decay::kTrapezoid;
    run_.settings.min_learning_rate = 0;
    run_.settings.mask.every = 5;
  }

  // Runs to the end, or until after step `stop_after`. Gives the parameters, the model's provenance
  // going to provenance_.
  std::vector<float> train(int threads = 1, std::int64_t stop_after = -1) {
    const auto device = kernels::make_device({.threads = threads});
    Model model = initial_model(run_.settings.config, run_.settings.seed);
    std::int64_t step = 0;
    run_.report = [&](const StepRow& row) { step = row.step; };
    run_.stop = [&] { return step == stop_after; };
    complete_ = run_training(run_, *device, model);
    provenance_ = model.provenance;
    return model.parameters;
  }

  // The log without its last column, which is the speed.
  std::string log() const {
    std::string text;
    std::string line;
    for (const char c : get(run_.log)) {
      line += c;
      if (c != '\n') continue;
      text += line.substr(0, line.rfind('\t')) + '\n';
      line.clear();
    }
    EXPECT_EQ(line, "");
    return text;
  }

  TempDir dir_;
  GenomeStore store_ = tiny_store(), validation_ = tiny_store(1000);
  TrainingRun run_;
  bool complete_ = false;
  std::map<std::string, std::string> provenance_;
};

TEST_F(TrainingTest, LossFallsAndTheLogSaysSo) {
  std::vector<double> losses;
  const auto device = kernels::make_device({.threads = 2});
  Model model = initial_model(run_.settings.config, 1);
  run_.settings.curriculum = {{128, 60}};
  run_.report = [&](const StepRow& row) { losses.push_back(mean_nll(row.training)); };
  ASSERT_TRUE(run_training(run_, *device, model));
  ASSERT_EQ(losses.size(), 60u);
  EXPECT_GT(losses[0], 1.3);  // a fresh model knows no better than to guess: ln 4 = 1.39
  // Nine in ten bases follow from the position modulo 3.
  EXPECT_LT(losses[59], 0.8 * losses[0]);
  const std::string text = log();
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 61);
  EXPECT_EQ(model.provenance.at("train.steps"), "60");
  EXPECT_EQ(model.provenance.at("train.nucleotides"), "3203");
  EXPECT_EQ(model.provenance.at("train.training-data").substr(0, 7), "sha256:");
}

class TrainingTestOfBothOptimizers : public TrainingTest, public testing::WithParamInterface<bool> {
 protected:
  TrainingTestOfBothOptimizers() {
    if (everything_on) turn_everything_on();
  }
  const bool everything_on = GetParam();
};
INSTANTIATE_TEST_SUITE_P(Settings, TrainingTestOfBothOptimizers, testing::Bool(),
                         [](const auto& is_on) { return is_on.param ? "All" : "Defaults"; });

TEST_P(TrainingTestOfBothOptimizers, InterruptedAndResumedIsTheSameRun) {
  const std::vector<float> straight = train();
  ASSERT_TRUE(complete_);
  const std::string straight_log = log();
  const auto straight_provenance = provenance_;
  ASSERT_EQ(everything_on, provenance_.at("train.optimizer") == "muon");
  for (const std::int64_t stop : {1, 10, 12, 19}) {  // 12: between the stages
    run_.resume = false;
    train(1, stop);
    EXPECT_FALSE(complete_);
    run_.resume = true;
    EXPECT_EQ(train(2), straight) << stop;  // with another number of threads
    EXPECT_TRUE(complete_);
    EXPECT_EQ(log(), straight_log) << stop;
    EXPECT_EQ(provenance_, straight_provenance);
  }
}

TEST_F(TrainingTest, AKilledRunContinuesFromItsLastCheckpoint) {
  const std::vector<float> straight = train();
  const std::string straight_log = log();
  // Dies in step 11: the last checkpoint is that of step 8, the log has rows up to step 10.
  run_.resume = false;
  const auto device = kernels::make_device({.threads = 1});
  Model model = initial_model(run_.settings.config, run_.settings.seed);
  run_.stop = nullptr;
  run_.report = [](const StepRow& row) {
    if (row.step == 10) throw std::runtime_error("killed");
  };
  EXPECT_THROW(run_training(run_, *device, model), std::runtime_error);
  EXPECT_NE(log().find("\n10\t"), std::string::npos);
  run_.resume = true;
  EXPECT_EQ(train(), straight);
  EXPECT_EQ(log(), straight_log);
}

TEST_F(TrainingTest, AFinishedRunLeavesACheckpointUntilTheModelIsSaved) {
  const std::vector<float> straight = train();
  const std::string straight_log = log();
  run_.resume = true;
  EXPECT_EQ(train(), straight);
  EXPECT_TRUE(complete_);
  EXPECT_EQ(log(), straight_log);
  EXPECT_EQ(provenance_.at("train.steps"), "12,8");
}

TEST_F(TrainingTest, MoreStepsContinueARun) {
  train(1, 15);
  std::filesystem::copy_file(run_.checkpoint, dir_ / "kept");
  run_.resume = true;
  run_.settings.curriculum = make_curriculum({64, 300}, {12, 14}, {256});
  const std::vector<float> longer = train(1);
  EXPECT_TRUE(complete_);
  EXPECT_NE(log().find("\n26\t"), std::string::npos);
  std::filesystem::copy_file(dir_ / "kept", run_.checkpoint,
                             std::filesystem::copy_options::overwrite_existing);
  EXPECT_EQ(train(2), longer);
}

TEST_F(TrainingTest, ACheckpointPastTheStepsIsRefused) {
  train(1, 15);
  SettingTexts texts = setting_texts(run_.settings);
  texts["training-data"] = "sha256:" + store_.digest();
  const auto count = static_cast<std::int64_t>(
      initial_model(run_.settings.config, run_.settings.seed).parameters.size());
  TrainState state = load_checkpoint(run_.checkpoint, count, texts);
  state.step = 21;
  save_checkpoint(run_.checkpoint, state, texts);
  run_.resume = true;
  const std::string message = test::error_of(ErrorKind::kUsage, [&] { train(); });
  EXPECT_NE(message.find("is of step 21, past --steps 20"), std::string::npos) << message;
}

TEST_P(TrainingTestOfBothOptimizers, ThreadsDoNotChangeAByte) {
  const std::vector<float> one = train(1);
  const std::string one_log = log();
  for (const int threads : {2, 3, 8}) {
    EXPECT_EQ(train(threads), one) << threads;
    EXPECT_EQ(log(), one_log) << threads;
  }
}

TEST_F(TrainingTest, SeedAndDataChangeTheRun) {
  const std::vector<float> one = train();
  run_.settings.seed = 2;
  EXPECT_NE(train(), one);
  run_.settings.seed = 1;
  store_.tokens[100] = static_cast<Token>((store_.tokens[100] + 1) % 4);
  train(1, 3);
  run_.resume = true;
  store_.tokens[100] = static_cast<Token>((store_.tokens[100] + 3) % 4);
  const std::string message = test::error_of(ErrorKind::kUsage, [&] { train(); });
  EXPECT_TRUE(test::contains(message, "training sequences differ")) << message;
}

// Two micro-batches of B nt hold the windows of one of 2B, and their gradients add up.
TEST_F(TrainingTest, AccumulatedMicroBatchesAreOneBatch) {
  const auto step = [&](std::int64_t batch_tokens, std::int64_t accumulate, int steps) {
    for (Stage& stage : run_.settings.curriculum) stage.batch_tokens = batch_tokens;
    run_.settings.accumulate = accumulate;
    const auto device = kernels::make_device({.threads = 1});
    TrainState state;
    state.parameters = initial_model(run_.settings.config, 1).parameters;
    Trainer trainer(run_.settings, store_, *device, state);
    StepResult result;
    for (int i = 0; i < steps; ++i) result = trainer.step();
    return result;
  };
  const StepResult whole = step(512, 1, 1), halves = step(256, 2, 1), quarters = step(128, 4, 1);
  EXPECT_EQ(whole.tokens, halves.tokens);
  EXPECT_EQ(whole.objective.count, halves.objective.count);
  EXPECT_EQ(whole.objective.correct, quarters.objective.correct);
  EXPECT_DOUBLE_EQ(whole.objective.total_nll(), halves.objective.total_nll());
  EXPECT_NEAR(whole.gradient_norm, halves.gradient_norm, 1e-6 * whole.gradient_norm);
  EXPECT_NEAR(whole.gradient_norm, quarters.gradient_norm, 1e-6 * whole.gradient_norm);
}

// A step without a base to ask about is none to fail in; a run of nothing else is.
TEST_F(TrainingTest, NothingToAskAbout) {
  store_ = {};
  store_.add("n", std::vector<Token>(3000, kTokenN), false);
  EXPECT_THROW(train(), Error);
  validation_ = store_;
  store_.add("a", std::vector<Token>(300, kTokenA), false);
  for (Stage& stage : run_.settings.curriculum) stage.batch_tokens = 128;
  for (const float value : train()) ASSERT_TRUE(std::isfinite(value));
  EXPECT_TRUE(complete_);
  const std::string nothing = "\t.\t.\t.\t.\t.\t.\t0\t";  // no loss, no gradient
  EXPECT_NE(log().find(nothing), std::string::npos) << log();

  std::filesystem::remove(run_.checkpoint);
  store_ = {};
  store_.add("g", std::vector<Token>{kTokenG}, false);
  run_.settings.mask.rate = 1e-9;
  const std::string message = test::error_of(ErrorKind::kInput, [&] { train(); });
  EXPECT_NE(message.find("--mask-rate"), std::string::npos) << message;
}

TEST_F(TrainingTest, OneNucleotideTrains) {
  store_ = {};
  store_.add("g", std::vector<Token>{kTokenG}, false);
  run_.settings.mask.rate = 1;
  for (const float value : train()) ASSERT_TRUE(std::isfinite(value));
  EXPECT_TRUE(complete_);
}

TEST_F(TrainingTest, DivergenceKeepsTheLastGoodCheckpoint) {
  train(1, 6);
  const std::string good = get(run_.checkpoint);
  ASSERT_FALSE(good.empty());
  run_.settings.learning_rate = 1e30;
  run_.settings.warmup = 0;
  run_.settings.weight_decay = 0.5;
  run_.checkpoint_every = 1;
  const std::string message = test::error_of(ErrorKind::kNumeric, [&] { train(); });
  EXPECT_TRUE(test::contains(message, "step ")) << message;
  EXPECT_TRUE(test::contains(message, "finite")) << message;
  // Whatever it left is finite, or the good one.
  const auto table = static_cast<std::int64_t>(initial_model(tiny_config(), 1).parameters.size());
  SettingTexts texts = setting_texts(run_.settings);
  texts["training-data"] = "sha256:" + store_.digest();
  if (get(run_.checkpoint) != good) load_checkpoint(run_.checkpoint, table, texts);
}

TEST_F(TrainingTest, ValidationIsTheSameForEverySeedAndOrderOfRuns) {
  const auto validate = [&](std::uint64_t seed, std::int64_t batch_tokens) {
    run_.settings.seed = seed;
    const auto device = kernels::make_device({.threads = 1});
    TrainState state;
    state.parameters = initial_model(run_.settings.config, 1).parameters;
    Trainer trainer(run_.settings, store_, *device, state);
    return trainer.validate(validation_, {64, 1, batch_tokens}, 640);
  };
  const ObjectiveResult one = validate(1, 64), other = validate(2, 10000);
  EXPECT_EQ(one.count, other.count);
  EXPECT_EQ(one.correct, other.correct);
  EXPECT_DOUBLE_EQ(one.total_nll(), other.total_nll());
  EXPECT_GT(one.total_count(), 60);
}

// The model is the average of the parameters of all steps, and so is what is validated.
TEST_F(TrainingTest, TheModelIsTheAverageOfTheWeights) {
  run_.settings.average = 0.8;
  const auto device = kernels::make_device({.threads = 1});
  TrainState state;
  state.parameters = initial_model(run_.settings.config, run_.settings.seed).parameters;
  Trainer trainer(run_.settings, store_, *device, state);
  std::vector<double> mean(state.parameters.begin(), state.parameters.end());
  const Stage stage{64, 1, 256};
  for (int t = 1; t <= 20; ++t) {
    trainer.step();
    if (t % 7 == 0) trainer.validate(validation_, stage, 500);  // leaves no trace
    const double decay = std::min(0.8, (1.0 + t) / (10.0 + t));
    for (std::size_t i = 0; i < mean.size(); ++i) {
      mean[i] = decay * mean[i] + (1 - decay) * trainer.state().parameters[i];
      ASSERT_NEAR(trainer.weights()[i], mean[i], 1e-5) << t;
    }
  }
  EXPECT_NE(trainer.weights(), trainer.state().parameters);
  const std::vector<float> model = train();
  EXPECT_EQ(model, trainer.weights());
  // The average changes nothing in the steps themselves.
  run_.settings.average = 0;
  EXPECT_EQ(train(), trainer.state().parameters);
  TrainState averaged;
  averaged.parameters = model;
  Trainer other(run_.settings, store_, *device, averaged);
  EXPECT_EQ(trainer.validate(validation_, stage, 500).nll,
            other.validate(validation_, stage, 500).nll);
}

// A checkpoint with an average is not continued without it, nor the other way round.
TEST_F(TrainingTest, AnotherOptimizerOrAverageDoesNotContinueARun) {
  train(1, 5);
  const std::string plain = get(run_.checkpoint);
  run_.resume = true;
  const auto refused = [&](auto change, const std::string& option) {
    const TrainSettings kept = run_.settings;
    change(run_.settings);
    const std::string message = test::error_of(ErrorKind::kUsage, [&] { train(); });
    EXPECT_TRUE(test::contains(message, option + " was ")) << message;
    run_.settings = kept;
  };
  refused([](TrainSettings& s) { s.average = 0.9; }, "--ema");
  refused([](TrainSettings& s) { s.optimizer = MatrixOptimizer::kMuon; }, "--muon-lr");
  refused([](TrainSettings& s) { s.key_query_factor = 2; }, "--qk-lr");
  refused([](TrainSettings& s) { s.decay = Decay::kLinear; }, "--schedule");
  refused([](TrainSettings& s) { s.mask.every = 7; }, "--mask-every");
  refused([](TrainSettings& s) { s.curriculum[1].batch_tokens *= 2; }, "--batch-tokens");
  EXPECT_EQ(get(run_.checkpoint), plain);
}

}  // namespace
}  // namespace m5
