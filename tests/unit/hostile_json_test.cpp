// JSON that is made to hurt its reader, in every place from which m5 reads JSON. Before the bounds
// of io/json.hpp the deep ones ended the process, and the wide ones took minutes.
#include <functional>
#include <map>

#include "io/json.hpp"
#include "io/safetensors.hpp"
#include "io/safetensors_header.hpp"
#include "m5/model.hpp"
#include "tests/unit/temp_dir.hpp"
#include "tests/unit/whole_file.hpp"
#include "train/checkpoint.hpp"

namespace m5 {
namespace {

using test::contains;
using test::error_of;
using test::TempDir;
using test::WholeFile;

constexpr int kMany = 1'000'000;

std::string repeated(const std::string& text, int times) {
  std::string all;
  for (int i = 0; i < times; ++i) all += text;
  return all;
}

std::string numbered_members(int count, const std::string& value) {
  std::string all = "{";
  for (int i = 0; i < count; ++i) {
    all += (i > 0 ? ",\"" : "\"") + std::to_string(i) + "\":" + value;
  }
  return all + "}";
}

// Each is whole JSON, but for the ones that say so; `key` is one that the place reads.
std::map<std::string, std::string> hostile_texts(const std::string& key) {
  const std::string member = "\"" + key + "\":";
  const auto under_key = [&](const std::string& value) { return "{" + member + value + "}"; };
  constexpr int kDeep = 100'000;
  std::map<std::string, std::string> texts;
  texts["arrays"] = under_key(repeated("[", kDeep) + repeated("]", kDeep));
  texts["arrays, open"] = under_key(repeated("[", kDeep));
  texts["objects"] = repeated("{" + member, kDeep) + "1" + repeated("}", kDeep);
  texts["objects, open"] = repeated("{" + member, kDeep);
  texts["both"] = repeated("{" + member + "[", kDeep) + repeated("]}", kDeep);
  texts["one too deep"] = under_key(repeated("[", kDeepestJson) + repeated("]", kDeepestJson));
  texts["elements"] = under_key("[" + repeated("1,", kMany) + "1]");
  texts["empty arrays"] = under_key("[" + repeated("[],", kMany) + "[]]");
  texts["convolutions"] = under_key("[" + repeated("{\"width\":3,\"dilation\":1},", kMany) + "{}]");
  texts["convolutions, short enough"] =
      under_key("[" + repeated("{\"width\":3,\"dilation\":1},", 30'000) + "{}]");
  texts["members"] = numbered_members(kMany, "1");
  texts["members, short enough"] = numbered_members(30'000, "\"\"");
  texts["long text"] = under_key("\"" + std::string(9'000'000, 'x') + "\"");
  texts["long number"] = under_key(std::string(9'000'000, '1'));
  texts["escapes"] = under_key("\"" + repeated("\\u0001", kMany) + "\"");
  texts["a key twice"] = "{" + member + "1," + member + "2}";
  texts["a key twice, below"] = under_key("{\"a\":1,\"a\":2}");
  texts["NUL"] = under_key("1") + std::string(1, '\0') + repeated("[", kDeep);
  texts["no UTF-8"] = under_key("\"\xc3\x28\"");
  return texts;
}

Model tiny_model() {
  ModelConfig config;
  config.dim = 16;
  config.layers = 1;
  config.heads = 8;
  config.ff_dim = 8;
  config.order = 2;
  config.window = 0;
  return initial_model(config, 7);
}

class HostileJson : public testing::Test {
 protected:
  // The good file with `text` as its metadata `key`, and right digests.
  void write_with(const std::string& key, const std::string& text) {
    const WholeFile good(dir_ / "good");
    Metadata metadata = good.metadata();
    metadata[key] = text;
    // Other readers accept metadata of any size, so that a hostile file may have it.
    write_safetensors(dir_ / "bad", good.tensors(), metadata);
  }
  TempDir dir_;
};

TEST_F(HostileJson, Text) {
  for (const auto& [name, text] : hostile_texts("k")) {
    SCOPED_TRACE(name);
    const std::string message = error_of(ErrorKind::kModel, [&] { parse_json(text, "F: it"); });
    EXPECT_EQ(message.find("F: it: "), 0U) << message.substr(0, 200);
    EXPECT_LT(message.size(), 300U);
  }
}

TEST_F(HostileJson, Config) {
  for (const char* key : {"local_conv", "coefficients", "name", "dim", "unknown"}) {
    for (const auto& [name, text] : hostile_texts(key)) {
      SCOPED_TRACE(std::string(key) + ": " + name);
      error_of(ErrorKind::kModel, [&] { ModelConfig::from_json(text, "F"); });
    }
  }
}

TEST_F(HostileJson, MetadataOfModels) {
  save_model(tiny_model(), dir_ / "good");
  for (const char* key : {"m5_config", "m5_provenance"}) {
    for (const auto& [name, text] : hostile_texts("local_conv")) {
      if (text.size() > kLongestSafetensorsHeader / 4 || name == "no UTF-8") continue;  // below
      SCOPED_TRACE(std::string(key) + ": " + name);
      write_with(key, text);
      const std::string message = error_of(ErrorKind::kModel, [&] { load_model(dir_ / "bad"); });
      EXPECT_EQ(message.find(dir_ / "bad"), 0U) << message;
    }
  }
}

TEST_F(HostileJson, SettingsOfCheckpoints) {
  TrainState state;
  state.parameters = state.first_moment = state.second_moment = {1, 2};
  save_checkpoint(dir_ / "good", state, {});
  for (const auto& [name, text] : hostile_texts("steps")) {
    if (text.size() > kLongestSafetensorsHeader / 4 || name == "no UTF-8") continue;
    SCOPED_TRACE(name);
    write_with("m5_train_settings", text);
    error_of(ErrorKind::kModel, [&] { load_checkpoint(dir_ / "bad", 2, {}); });
  }
}

TEST_F(HostileJson, Header) {
  for (const char* key : {"__metadata__", "a", "shape"}) {
    for (const auto& [name, text] : hostile_texts(key)) {
      SCOPED_TRACE(std::string(key) + ": " + name);
      error_of(ErrorKind::kModel, [&] { parse_safetensors_header(text, 0, "F"); });
    }
  }
}

TEST_F(HostileJson, WhatIsWithinTheBoundsIsRead) {
  const auto nested = [](int depth) { return repeated("[", depth) + repeated("]", depth); };
  EXPECT_TRUE(parse_json(nested(kDeepestJson), "F").is_array());
  const std::string text(kLongestJson - 2, 'x');
  EXPECT_EQ(parse_json("\"" + text + "\"", "F").get<std::string>(), text);
  const int most = static_cast<int>(kMostJsonValues) - 1;
  EXPECT_EQ(parse_json(numbered_members(most, "1"), "F").size(), kMostJsonValues - 1);
  error_of(ErrorKind::kModel, [&] { parse_json(numbered_members(most + 1, "1"), "F"); });

  Model model = tiny_model();
  model.provenance["nested"] = "x";
  save_model(model, dir_ / "good");
  write_with("m5_provenance", "{\"a\":" + nested(kDeepestJson - 1) + "}");
  EXPECT_EQ(load_model(dir_ / "bad").provenance.at("a"), nested(kDeepestJson - 1));
}

// A model that is saved can be loaded, whatever its provenance.
TEST_F(HostileJson, ProvenanceThatCouldNotBeReadIsNotSaved) {
  Model model = tiny_model();
  model.provenance["a"] = std::string(kLongestJson - 100, 'x');
  save_model(model, dir_ / "m");
  EXPECT_EQ(load_model(dir_ / "m").provenance, model.provenance);
  model.provenance["a"] = std::string(kLongestJson, 'x');
  error_of(ErrorKind::kUsage, [&] { save_model(model, dir_ / "n"); });
  model.provenance.clear();
  for (std::size_t i = 0; i < kMostJsonValues; ++i) model.provenance[std::to_string(i)] = "";
  error_of(ErrorKind::kUsage, [&] { save_model(model, dir_ / "n"); });
  EXPECT_EQ(dir_.entries(), 1U);
}

}  // namespace
}  // namespace m5
