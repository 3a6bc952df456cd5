// What the public headers say of their arguments: every misuse is an Error of its kind, before
// anything is computed.
#include <gtest/gtest.h>

#include <cstdlib>
#include <functional>
#include <limits>

#include "m5/error.hpp"
#include "m5/session.hpp"
#include "m5/version.hpp"
#include "model_util.hpp"

namespace m5 {
namespace {

const char* const kNoFile = "/nowhere/m5.safetensors";

// Expects Error(kind) with `part` in its message.
void expect_refusal(ErrorKind kind, const std::string& part, const std::function<void()>& call) {
  try {
    call();
    ADD_FAILURE() << "accepted: " << part;
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), kind) << error.what();
    EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
  }
}
void expect_misuse(const std::string& part, const std::function<void()>& call) {
  expect_refusal(ErrorKind::kUsage, part, call);
}

Model tiny() { return initial_model(tiny_config(16, 2, 2), 1); }

class Api : public ::testing::Test {
 protected:
  Api() : model(tiny()), session(model, {.threads = 1}), tokens(random_tokens(40, 1)) {}

  // Both functions that take sequences refuse these.
  void refuses(const std::string& part, const std::vector<TokenView>& sequences) {
    const std::int64_t row = 0;
    float out[kBases] = {1, 2, 3, 4};
    expect_misuse(part, [&] { session.log_probs(sequences, {&row, 1}, out); });
    EXPECT_EQ(out[0], 1);
    expect_misuse(part, [&] {
      session.hidden(sequences, 1, [](std::int64_t, int, const float*) { ADD_FAILURE(); });
    });
  }
  void refuses_rows(const std::string& part, const std::vector<std::int64_t>& rows) {
    const TokenView one = view(tokens, false);
    std::vector<float> out(rows.size() * kBases, 1.0f);
    expect_misuse(part, [&] { session.log_probs({&one, 1}, rows, out.data()); });
    for (const float value : out) EXPECT_EQ(value, 1.0f);
  }

  Model model;
  Session session;
  std::vector<Token> tokens;
};

TEST_F(Api, SequencesThatAreNone) {
  refuses("no sequences", {});
  refuses("sequence 0: no tokens", {{tokens.data(), 0, false, 0}});
  refuses("sequence 0: no tokens", {{tokens.data(), -1, false, 0}});
  refuses("sequence 0: no tokens", {{nullptr, 40, false, 0}});
  refuses("sequence 1: no tokens", {view(tokens, false), {tokens.data(), 0, true, 1}});
}

TEST_F(Api, EveryTokenThatIsNone) {
  for (int token = 0; token < 256; ++token) {
    for (const std::size_t at : {std::size_t{0}, std::size_t{17}, tokens.size() - 1}) {
      std::vector<Token> changed = tokens;
      changed[at] = static_cast<Token>(token);
      const std::vector<TokenView> views = {view(tokens, false), view(changed, false, 1)};
      if (token >= kTokenPad) {
        refuses("sequence 1: position " + std::to_string(at) + ": token " + std::to_string(token),
                views);
      } else {
        EXPECT_NO_THROW(session.hidden(views, 0, [](std::int64_t, int, const float*) {}));
      }
    }
  }
}

TEST_F(Api, ContextsOutOfOrder) {
  for (const std::vector<std::int64_t>& contexts :
       {std::vector<std::int64_t>{1}, {-1}, {0, 2}, {0, 1, 0}, {0, 0, -1}, {1, 0}}) {
    std::vector<TokenView> views;
    for (const std::int64_t context : contexts) views.push_back(view(tokens, false, context));
    refuses("context", views);
  }
}

TEST_F(Api, RowsOutOfRangeOrOrder) {
  refuses_rows("row -1", {-1});
  refuses_rows("row 40", {40});
  refuses_rows("row 40", {0, 1, 40});
  refuses_rows("row 3", {5, 3});
  refuses_rows("row 5", {5, 5});
  refuses_rows("row", {std::numeric_limits<std::int64_t>::max()});
  const TokenView one = view(tokens, false);
  const std::int64_t row = 39;
  expect_misuse("nowhere", [&] { session.log_probs({&one, 1}, {&row, 1}, nullptr); });
  session.log_probs({&one, 1}, {}, nullptr);  // nothing asked for, nothing written
}

TEST_F(Api, LayersAndSinks) {
  const TokenView one = view(tokens, false);
  for (const int layer : {-1, 3}) {
    expect_misuse("layer " + std::to_string(layer), [&] {
      session.hidden({&one, 1}, layer, [](std::int64_t, int, const float*) { ADD_FAILURE(); });
    });
  }
  expect_misuse("no sink", [&] { session.hidden({&one, 1}, 1, {}); });
  using Layers = std::vector<int>;
  const auto refuses_layers = [&](const std::string& what, const Layers& layers) {
    expect_misuse(what, [&] {
      session.hidden({&one, 1}, layers,
                     [](int, std::int64_t, int, const float*) { ADD_FAILURE(); });
    });
  };
  refuses_layers("no layers", {});
  refuses_layers("layer 3", {0, 3});
  refuses_layers("layer -1", {-1, 0});
  refuses_layers("ascending", {1, 0});
  refuses_layers("ascending", {1, 1});
  expect_misuse("no sink", [&] { session.hidden({&one, 1}, Layers{1}, {}); });
}

TEST_F(Api, MemoryOfImpossibleSizes) {
  for (const std::int64_t n : {std::int64_t{-1}, std::numeric_limits<std::int64_t>::max(),
                               std::numeric_limits<std::int64_t>::min()}) {
    expect_misuse("memory_needed", [&] { session.memory_needed(n, 1); });
    expect_misuse("memory_needed", [&] { session.memory_needed(1, n); });
    expect_misuse("memory_needed", [&] { session.memory_needed(1, 1, n); });
  }
  EXPECT_GT(session.memory_needed(1'000'000'000'000), session.memory_needed(0, 0));
}

TEST_F(Api, SessionsOfBrokenModelsAndOptions) {
  Model broken = model;
  broken.parameters.pop_back();
  expect_misuse("parameters", [&] { Session(broken, {}); });
  broken.parameters.clear();
  expect_misuse("parameters", [&] { Session(broken, {}); });
  expect_misuse("parameters", [] { Session(Model(), {}); });
  for (const auto& spoil : std::vector<std::function<void(ModelConfig&)>>{
           [](ModelConfig& c) { c.heads = 0; }, [](ModelConfig& c) { c.dim = -16; },
           [](ModelConfig& c) { c.order = 3; }, [](ModelConfig& c) { c.window = 1 << 30; },
           [](ModelConfig& c) {
             c.local_conv = {{3, 1}};
           },
           [](ModelConfig& c) { c.coefficients.pop_back(); }}) {
    Model other = model;
    spoil(other.config);
    expect_refusal(ErrorKind::kModel, "config", [&] { Session(other, {}); });
    expect_refusal(ErrorKind::kModel, "config", [&] { initial_model(other.config, 1); });
    expect_refusal(ErrorKind::kModel, "config", [&] { save_model(other, kNoFile); });
  }
  for (const int threads : {-1, 4097}) {
    expect_misuse("threads", [&] { Session(model, {.threads = threads}); });
  }
  for (const int rows : {-128, 1, 100, 65664}) {
    expect_misuse("block rows", [&] { Session(model, {.block_rows = rows}); });
  }
  expect_misuse("precision", [&] { Session(model, {.precision = static_cast<Precision>(7)}); });
  expect_misuse("device", [&] { Session(model, {.device = "tpu"}); });
  expect_refusal(ErrorKind::kResource, "cuda", [&] { Session(model, {.device = "cuda"}); });
}

TEST_F(Api, CoefficientsThatAreLeftOutAreFilledIn) {
  Model without = model;
  without.config.coefficients.clear();
  Session other(without, {.threads = 1});
  EXPECT_EQ(other.config(), session.config());
}

TEST_F(Api, ModelsThatCannotBeSavedOrLoaded) {
  Model broken = model;
  broken.parameters.push_back(0);
  expect_misuse("parameters", [&] { save_model(broken, kNoFile); });
  for (const float value :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    broken = model;
    broken.parameters[7] = value;
    expect_refusal(ErrorKind::kNumeric, "not finite", [&] { save_model(broken, kNoFile); });
  }
  expect_refusal(ErrorKind::kIo, kNoFile, [&] { save_model(model, kNoFile); });
  expect_refusal(ErrorKind::kIo, kNoFile, [] { load_model(kNoFile); });
}

TEST_F(Api, ConfigsBeforeTheyAreValidated) {
  const std::vector<std::function<void(const ModelConfig&)>> questions = {
      [](const ModelConfig& c) { c.value_dim(); },
      [](const ModelConfig& c) { c.has_conv(0); },
      [](const ModelConfig& c) { c.features(); },
      [](const ModelConfig& c) { c.approximation_error(); },
      [](const ModelConfig& c) { c.attention_error_bound(); },
  };
  ModelConfig config;
  config.heads = config.layers = 0;
  config.order = 1000;
  for (const auto& ask : questions) expect_misuse("ModelConfig::", [&] { ask(config); });
  config = model.config;
  for (const auto& ask : questions) EXPECT_NO_THROW(ask(config));
  for (const int layer : {-1, 2}) {
    expect_misuse("no layer", [&] { config.has_conv(layer); });
  }
  config.local_conv = {{3, 1}};
  expect_misuse("local_conv", [&] { config.has_conv(1); });
  expect_misuse("unknown preset", [] { ModelConfig::preset("huge"); });
  expect_refusal(ErrorKind::kModel, "here", [] { ModelConfig::from_json("[", "here"); });
}

}  // namespace
}  // namespace m5
