#include "train/checkpoint.hpp"

#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>
#include <limits>
#include <sstream>

#include "m5/error.hpp"
#include "train/train_log.hpp"

namespace m5 {
namespace {

std::string temporary(const std::string& name) {
  return testing::TempDir() + "checkpoint_test_" + name;
}

std::string contents(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

TrainState example_state() {
  TrainState state;
  state.step = 12;
  state.tokens = 5000000000;
  state.parameters = {1.5f, -0.0f, 3e-39f};
  state.first_moment = {1, 2, 3};
  state.second_moment = {4, 5, 6};
  return state;
}

SettingTexts example_settings() {
  SettingTexts settings = setting_texts(TrainSettings{});
  settings["training-data"] = "sha256:00";
  return settings;
}

// The kind of the error and its text.
std::pair<ErrorKind, std::string> refusal(const std::string& path, std::int64_t size,
                                          const SettingTexts& settings) {
  try {
    load_checkpoint(path, size, settings);
  } catch (const Error& error) {
    return {error.kind(), error.what()};
  }
  return {ErrorKind::kInternal, "accepted"};
}

TEST(Checkpoint, KeepsEverything) {
  const std::string path = temporary("keeps");
  save_checkpoint(path, example_state(), example_settings());
  const TrainState state = load_checkpoint(path, 3, example_settings());
  EXPECT_EQ(state.step, 12);
  EXPECT_EQ(state.tokens, 5000000000);
  EXPECT_EQ(state.parameters, example_state().parameters);
  EXPECT_EQ(state.first_moment, example_state().first_moment);
  EXPECT_EQ(state.second_moment, example_state().second_moment);
  std::remove(path.c_str());
}

TEST(Checkpoint, EveryDifferingSettingIsNamed) {
  const std::string path = temporary("differs");
  save_checkpoint(path, example_state(), example_settings());
  for (const auto& [key, value] : example_settings()) {
    SettingTexts changed = example_settings();
    changed[key] = value + (key == "steps" ? ",1" : "1");  // the last stage may grow
    const auto [kind, message] = refusal(path, 3, changed);
    EXPECT_EQ(kind, ErrorKind::kUsage) << key;
    const std::string named = key == "training-data" ? "training sequences"
                              : key == "config"      ? "--preset"
                                                     : "--" + key;
    EXPECT_NE(message.find(named), std::string::npos) << message;
    changed.erase(key);
    EXPECT_EQ(refusal(path, 3, changed).first, ErrorKind::kUsage) << key;
  }
  std::remove(path.c_str());
}

TEST(Checkpoint, OnlyTheLastStageMayGrow) {
  const std::string path = temporary("grows");
  for (const auto& [before, after, allowed] :
       {std::tuple("20", "21", true), std::tuple("20", "200", true), std::tuple("20", "19", false),
        std::tuple("10,10", "10,11", true), std::tuple("10,10", "10,9", false),
        std::tuple("10,10", "11,10", false), std::tuple("10,10", "11,11", false),
        std::tuple("10,10", "10,10,1", false), std::tuple("20", "10,20", false)}) {
    SettingTexts settings = example_settings();
    settings["steps"] = before;
    save_checkpoint(path, example_state(), settings);
    settings["steps"] = after;
    if (allowed) {
      EXPECT_EQ(load_checkpoint(path, 3, settings).step, example_state().step);
    } else {
      const auto [kind, message] = refusal(path, 3, settings);
      EXPECT_EQ(kind, ErrorKind::kUsage) << before << " -> " << after;
      EXPECT_NE(message.find("--steps was"), std::string::npos) << message;
    }
  }
  std::remove(path.c_str());
}

TEST(Checkpoint, RefusesWhatIsNotOne) {
  const std::string path = temporary("broken");
  EXPECT_EQ(refusal(path, 3, example_settings()).first, ErrorKind::kIo);
  save_checkpoint(path, example_state(), example_settings());
  EXPECT_EQ(refusal(path, 4, example_settings()).first, ErrorKind::kModel);
  const std::string whole = contents(path);
  for (std::size_t size = 0; size < whole.size(); size += 7) {
    std::ofstream(path, std::ios::binary) << whole.substr(0, size);
    EXPECT_EQ(refusal(path, 3, example_settings()).first, ErrorKind::kModel) << size;
  }
  std::string flipped = whole;
  flipped[flipped.size() - 2] ^= 0x10;
  std::ofstream(path, std::ios::binary) << flipped;
  EXPECT_EQ(refusal(path, 3, example_settings()).first, ErrorKind::kModel);
  TrainState state = example_state();
  state.second_moment[1] = std::numeric_limits<float>::infinity();
  save_checkpoint(path, state, example_settings());
  EXPECT_EQ(refusal(path, 3, example_settings()).first, ErrorKind::kModel);
  std::remove(path.c_str());
}

StepRow row(std::int64_t step) {
  StepRow row;
  row.step = step;
  row.tokens = 10 * step;
  row.segment_length = 8;
  row.learning_rate = 1e-3;
  row.training.nll = {2, 0, 1};
  row.training.count = {2, 0, 2};
  row.training.correct = {1, 0, 2};
  row.gradient_norm = 0.25;
  row.nt_per_second = 1234.6;
  return row;
}

TEST(TrainLog, HasAColumnForEveryValue) {
  const auto columns = [](const std::string& line) {
    return std::count(line.begin(), line.end(), '\t') + 1;
  };
  EXPECT_EQ(columns(TrainLog::header()), columns(TrainLog::line(row(1))));
  EXPECT_EQ(TrainLog::line(row(1)),
            "1\t10\t8\t0.001\t0.75\t1.4427\t1\t0.5\t.\t1\t0.25\t.\t.\t.\t.\t.\t.\t1235\n");
  StepRow validated = row(1);
  validated.validated = true;
  validated.validation = validated.training;
  EXPECT_EQ(
      TrainLog::line(validated),
      "1\t10\t8\t0.001\t0.75\t1.4427\t1\t0.5\t.\t1\t0.25\t0.75\t1.4427\t1\t0.5\t.\t1\t1235\n");
}

TEST(TrainLog, ResumeDropsTheRowsAfterTheCheckpoint) {
  const std::string path = temporary("log");
  {
    TrainLog log(path, 0);
    for (std::int64_t step = 1; step <= 5; ++step) log.write(row(step));
    log.close();
  }
  const std::string whole = contents(path);
  std::ofstream(path, std::ios::app) << "6\t60\t8\t0.0";  // cut short by a crash
  {
    TrainLog log(path, 3);
    for (std::int64_t step = 4; step <= 5; ++step) log.write(row(step));
    log.close();
  }
  EXPECT_EQ(contents(path), whole);
  std::ofstream(path) << "something else\n";
  EXPECT_THROW(TrainLog(path, 3), Error);
  EXPECT_EQ(contents(path), "something else\n");
  std::remove(path.c_str());
  TrainLog(path, 3).close();  // a log that is gone starts anew
  EXPECT_EQ(contents(path), TrainLog::header());
  std::remove(path.c_str());
}

TEST(TrainLog, AFullDiskIsAnError) {
  EXPECT_THROW(TrainLog("/dev/full", 0), Error);
  EXPECT_THROW(TrainLog("/no/such/directory/log", 0), Error);
}

}  // namespace
}  // namespace m5
