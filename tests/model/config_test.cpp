#include "m5/config.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <functional>
#include <limits>
#include <sstream>

#include "m5/error.hpp"

namespace m5 {
namespace {

// The message of the Error(kModel) that `work` throws; empty when it throws none.
std::string refusal(const std::function<void()>& work) {
  try {
    work();
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::kModel);
    return e.what();
  }
  return "";
}

void expect_refused(const ModelConfig& config, const std::string& field) {
  ModelConfig copy = config;
  EXPECT_NE(refusal([&] { copy.validate(); }).find(field), std::string::npos) << field;
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const auto at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return text.replace(at, from.size(), to);
}

TEST(Config, PresetsAreValidAndRoundTrip) {
  for (const std::string& name : ModelConfig::preset_names()) {
    ModelConfig preset = ModelConfig::preset(name);
    EXPECT_NO_THROW(preset.validate());
    EXPECT_EQ(preset.name, name);
    EXPECT_EQ(preset.value_dim(), 8);
    EXPECT_EQ(preset.ff_dim, 4 * preset.dim);
    EXPECT_EQ(ModelConfig::from_json(preset.to_json(), "text"), preset);
  }
  EXPECT_EQ(ModelConfig::preset("nano").features(), 70);
  EXPECT_EQ(ModelConfig::preset("small").features(), 210);
  EXPECT_TRUE(ModelConfig::preset("nano-conv").has_conv(3));
  EXPECT_FALSE(ModelConfig::preset("nano").has_conv(3));
  EXPECT_NEAR(ModelConfig::preset("base").approximation_error(), 3.56e-4, 1e-6);
  EXPECT_NEAR(ModelConfig::preset("base").attention_error_bound(), 7.11e-4, 1e-6);
}

// Coefficients may differ in the last digits between kinds of long double, the rest may not.
TEST(Config, PresetFilesAreThePresets) {
  for (const std::string& name : ModelConfig::preset_names()) {
    const std::string path = std::string(M5_SOURCE_DIR) + "/share/presets/" + name + ".json";
    std::ifstream file(path);
    ASSERT_TRUE(file) << path;
    std::stringstream text;
    text << file.rdbuf();
    ModelConfig stored = ModelConfig::from_json(text.str(), path);
    const ModelConfig preset = ModelConfig::preset(name);
    ASSERT_EQ(stored.coefficients.size(), preset.coefficients.size());
    for (std::size_t n = 0; n < preset.coefficients.size(); ++n) {
      EXPECT_NEAR(stored.coefficients[n], preset.coefficients[n], 1e-12);
    }
    stored.coefficients = preset.coefficients;
    EXPECT_EQ(stored, preset);
    EXPECT_EQ(stored.to_json(), preset.to_json());
  }
}

TEST(Config, UnknownPresetIsUsage) {
  try {
    ModelConfig::preset("huge");
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::kUsage);
    EXPECT_NE(std::string(e.what()).find("nano-conv"), std::string::npos);
  }
}

TEST(Config, RangesAreNamed) {
  const ModelConfig good = ModelConfig::preset("nano-conv");
  const auto with = [&](const std::function<void(ModelConfig&)>& change) {
    ModelConfig config = good;
    change(config);
    return config;
  };
  expect_refused(with([](auto& c) { c.heads = 12; }), "heads");
  expect_refused(with([](auto& c) { c.heads = 0; }), "heads");
  expect_refused(with([](auto& c) { c.dim = 130; }), "dim");
  expect_refused(with([](auto& c) { c.dim = 16384; }), "dim");
  expect_refused(with([](auto& c) { c.dim = 1024; }), "dim / heads");
  expect_refused(with([](auto& c) { c.layers = 0; }), "layers");
  expect_refused(with([](auto& c) { c.layers = 257; }), "layers");
  expect_refused(with([](auto& c) { c.ff_dim = 0; }), "ff_dim");
  expect_refused(with([](auto& c) { c.ff_dim = 500; }), "ff_dim");
  expect_refused(with([](auto& c) { c.order = 5; }), "order");
  expect_refused(with([](auto& c) { c.order = 10; }), "order");
  expect_refused(with([](auto& c) { c.bound = 0; }), "bound");
  expect_refused(with([](auto& c) { c.bound = 8.5; }), "bound");
  expect_refused(with([](auto& c) { c.bound = std::nan(""); }), "bound");
  expect_refused(with([](auto& c) { c.window = -1; }), "window");
  expect_refused(with([](auto& c) { c.window = 513; }), "window");
  expect_refused(with([](auto& c) { c.norm_epsilon = 0; }), "norm_epsilon");
  expect_refused(with([](auto& c) { c.local_conv.pop_back(); }), "local_conv");
  expect_refused(with([](auto& c) { c.local_conv[1].width = 8; }), "local_conv width");
  expect_refused(with([](auto& c) { c.local_conv[1].width = 65; }), "local_conv width");
  expect_refused(with([](auto& c) { c.local_conv[1].dilation = 0; }), "local_conv dilation");
  expect_refused(with([](auto& c) { c.local_conv[1].dilation = 257; }), "local_conv dilation");
  expect_refused(with([](auto& c) { c.coefficients.pop_back(); }), "coefficients");
  expect_refused(with([](auto& c) { c.coefficients[2] = 0; }), "coefficient");
  expect_refused(with([](auto& c) { c.coefficients[2] = -1; }), "coefficient");
  expect_refused(with([](auto& c) { c.coefficients[2] = HUGE_VAL; }), "coefficient");
  expect_refused(with([](auto& c) { c.coefficients[1] = 2; }), "relative error");  // P(-2) < 0
  const auto bounded = [](double bound, int order) {
    return [=](auto& c) {
      c.bound = bound;
      c.order = order;
      c.coefficients.clear();
    };
  };
  expect_refused(with(bounded(8, 8)), "fp32");
  expect_refused(with(bounded(5, 2)), "fp32");
  for (int order : {2, 4, 6, 8}) EXPECT_NO_THROW(with(bounded(4, order)).validate());
  expect_refused(with([](auto& c) { c.name = "two\nlines"; }), "name");
}

TEST(Config, JsonIsStrict) {
  const std::string good = ModelConfig::preset("nano").to_json();
  const auto refused = [](const std::string& text) {
    const std::string message = refusal([&] { ModelConfig::from_json(text, "here.json"); });
    EXPECT_NE(message.find("here.json"), std::string::npos) << text;
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
    return message;
  };
  const auto has = [](const std::string& message, const std::string& part) {
    EXPECT_NE(message.find(part), std::string::npos) << message;
  };
  const std::string newer =
      refused(replaced(good, "\"format_version\": 1", "\"format_version\": 7"));
  has(newer, "7");
  has(newer, "version 2");
  has(refused(replaced(good, "\"dim\"", "\"wibble\": 1, \"dim\"")), "wibble");
  has(refused(replaced(good, "\"dim\": 128", "\"dim\": 128.0")), "'dim'");
  has(refused(replaced(good, "\"dim\": 128", "\"dim\": true")), "'dim'");
  has(refused(replaced(good, "\"dim\": 128", "\"dim\": \"128\"")), "'dim'");
  has(refused(replaced(good, "\"dim\": 128", "\"dim\": 18446744073709551615")), "'dim'");
  has(refused(replaced(good, "\"dim\": 128", "\"dim\": -9223372036854775808")), "'dim'");
  has(refused(replaced(good, "\"dim\": 128,", "")), "'dim'");
  has(refused(replaced(good, "\"dim\": 128", "\"dim\": 128, \"dim\": 128")), "twice");
  has(refused(replaced(good, "\"bound\": 2.0", "\"bound\": null")), "'bound'");
  has(refused(replaced(good, "\"bound\": 2.0", "\"bound\": 1e999")), "JSON");
  has(refused(replaced(good, "\"local_conv\": []", "\"local_conv\": {}")), "'local_conv'");
  has(refused(replaced(good, "\"local_conv\": []", "\"local_conv\": [{\"width\": 9}]")),
      "dilation");
  has(refused(replaced(good, "\"name\": \"nano\"", "\"name\": 3")), "'name'");
  for (const char* text : {"", "[]", "3", "{", "null", "{} {}", "\xff\xfe", "[[[[[[[["})
    refused(text);
  for (std::size_t cut = 0; cut + 2 < good.size(); ++cut) refused(good.substr(0, cut));
}

TEST(Config, Memory) {
  ModelConfig config = ModelConfig::preset("nano");
  EXPECT_EQ(config.format_version(), 1);  // older programs read it
  const std::string without = config.to_json();
  EXPECT_EQ(without.find("memory"), std::string::npos);
  config.memory = MemoryConfig::standard();
  config.validate();
  EXPECT_EQ(config.format_version(), 2);
  const std::string good = config.to_json();
  EXPECT_EQ(ModelConfig::from_json(good, "text"), config);

  const auto refused = [](MemoryConfig memory, const std::string& part) {
    ModelConfig bad = ModelConfig::preset("nano");
    bad.memory = std::move(memory);
    EXPECT_NE(refusal([&] { bad.validate(); }).find(part), std::string::npos) << part;
  };
  refused({{{0, 0}}, 32}, "order");
  refused({{{16, 16}}, 32}, "order");
  refused({{{-1, 3}, {3, -1}}, 32}, "order");
  refused({{{2, 1}}, 32}, "without [1, 2]");
  refused({{{1, 1}, {1, 1}}, 32}, "twice");
  refused({{{1, 1}}, 12}, "hidden");
  refused({{{1, 1}}, 0}, "hidden");
  refused({std::vector<MemoryOrder>(65, {1, 1}), 32}, "orders");

  const auto refused_text = [&](const std::string& from, const std::string& to) {
    const std::string text = replaced(good, from, to);
    EXPECT_NE(text, good) << from;
    EXPECT_NE(refusal([&] { ModelConfig::from_json(text, "here.json"); }).find("here.json"),
              std::string::npos)
        << to;
  };
  refused_text("\"format_version\": 2", "\"format_version\": 1");
  refused_text("\"orders\": [", "\"orders\": [[1], ");
  refused_text("\"orders\": [", "\"orders\": [[1, -1], ");
  refused_text("\"orders\": [", "\"orders\": [[1, 1e9], ");
  refused_text("\"orders\": [", "\"orders\": [[1, 18446744073709551615], ");
  refused_text("\"hidden\": 32", "\"hidden\": null");
  refused_text("\"hidden\": 32", "\"hidden\": 32, \"more\": 1");
}

TEST(Config, EmptyCoefficientsAreFilled) {
  const ModelConfig preset = ModelConfig::preset("nano");
  std::string text = preset.to_json();
  const auto begin = text.find("\"coefficients\"");
  EXPECT_EQ(ModelConfig::from_json(text.substr(0, begin) + "\"coefficients\": []}", "text"),
            preset);
}

}  // namespace
}  // namespace m5
