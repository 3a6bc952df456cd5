// What the public headers say of their arguments: every misuse is an Error of its kind, before
// anything is computed.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cctype>
#include <cstdlib>
#include <functional>
#include <limits>
#include <memory>

#include "base/memory.hpp"
#include "m5/embedding.hpp"
#include "m5/error.hpp"
#include "m5/scoring.hpp"
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

  // All functions that take sequences refuse these.
  void refuses(const std::string& part, const std::vector<TokenView>& sequences) {
    const std::int64_t row = 0;
    float out[kBases] = {1, 2, 3, 4};
    expect_misuse(part, [&] { session.log_probs(sequences, {&row, 1}, out); });
    EXPECT_EQ(out[0], 1);
    expect_misuse(part, [&] {
      session.hidden(sequences, 1, [](std::int64_t, int, const float*) { ADD_FAILURE(); });
    });
    for (const Strand strand : {Strand::kForward, Strand::kReverse, Strand::kBoth}) {
      for (const bool unmasked : {false, true}) {
        expect_misuse(part, [&] {
          score_sequences(session, sequences, {.strand = strand, .unmasked = unmasked});
        });
      }
      const PoolInterval interval{0, 0, 1};
      expect_misuse(part, [&] {
        pooled_embeddings(session, sequences, {&interval, 1}, {.strand = strand});
      });
      expect_misuse(part, [&] { pooled_embeddings(session, sequences, {}, {.strand = strand}); });
      expect_misuse(part, [&] { base_embeddings(session, sequences, {.strand = strand}); });
    }
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
  // Nothing of a length that cannot be is read, alone or as a sum.
  constexpr std::int64_t kMost = 1'000'000'000'000;
  for (const std::int64_t length : {std::numeric_limits<std::int64_t>::max(), kMost + 1}) {
    refuses("sequence 0: length", {{tokens.data(), length, false, 0}});
  }
  refuses("sequence 1: length", {view(tokens, false), {tokens.data(), kMost - 39, false, 0}});
  refuses(
      "sequence 1: length",
      {view(tokens, false), {tokens.data(), std::numeric_limits<std::int64_t>::max(), true, 1}});
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

TEST_F(Api, OptionsOfScoresAndEmbeddings) {
  const TokenView one = view(tokens, false);
  const std::span<const TokenView> views(&one, 1);
  constexpr int kLow = std::numeric_limits<int>::min(), kHigh = std::numeric_limits<int>::max();
  for (const int passes : {0, -1, kLow, 1'000'001, kHigh}) {
    expect_misuse("passes: ", [&] { score_sequences(session, views, {.passes = passes}); });
  }
  for (const int number : {-1, 3, 255}) {
    const auto strand = static_cast<Strand>(number);
    const PoolInterval all{0, 0, 40};
    expect_misuse("strand: ", [&] { score_sequences(session, views, {.strand = strand}); });
    expect_misuse("strand: ", [&] { base_embeddings(session, views, {.strand = strand}); });
    expect_misuse("strand: ", [&] {
      pooled_embeddings(session, views, {&all, 1}, {.strand = strand});
    });
    expect_misuse("pool: ", [&] {
      pooled_embeddings(session, views, {&all, 1}, {.pool = static_cast<Pool>(number)});
    });
  }
  for (const int layer : {-2, 3, kLow, kHigh}) {
    const PoolInterval all{0, 0, 40};
    expect_misuse("layer ", [&] { base_embeddings(session, views, {.layer = layer}); });
    expect_misuse("layer ", [&] {
      pooled_embeddings(session, views, {&all, 1}, {.layer = layer});
    });
  }
}

TEST_F(Api, EveryIntervalThatIsNone) {
  constexpr std::int64_t kLow = std::numeric_limits<std::int64_t>::min(),
                         kHigh = std::numeric_limits<std::int64_t>::max();
  const std::int64_t ends[] = {kLow, -1, 0, 1, 39, 40, 41, 79, 80, 81, kHigh};
  tokens.assign(40, kTokenG);
  for (const bool circular : {false, true}) {
    const std::vector<TokenView> views = {view(tokens, circular), view(tokens, circular, 1)};
    for (const std::int64_t sequence : {kLow, std::int64_t{-1}, std::int64_t{2}, kHigh}) {
      const PoolInterval interval{sequence, 0, 1};
      expect_misuse("interval 0: no sequence", [&] {
        pooled_embeddings(session, views, {&interval, 1});
      });
    }
    for (const std::int64_t begin : ends) {
      for (const std::int64_t end : ends) {
        const bool good =
            begin >= 0 && begin < 40 && end > begin && (circular ? end <= begin + 40 : end <= 40);
        const std::vector<PoolInterval> intervals = {{0, 0, 1}, {1, begin, end}};
        if (good) {
          EXPECT_EQ(pooled_embeddings(session, views, intervals).bases[1], end - begin);
        } else {
          expect_misuse("interval 1: ", [&] { pooled_embeddings(session, views, intervals); });
        }
      }
    }
  }
  const TokenView one = view(tokens, false);
  EXPECT_TRUE(pooled_embeddings(session, {&one, 1}, {}).values.empty());
}

TEST_F(Api, CountsWithoutAMemory) {
  const TokenView one = view(tokens, false);
  const std::int64_t row = 3;
  float out[kBases];
  expect_misuse("without a genome memory", [&] {
    session.log_probs({&one, 1}, {&row, 1}, out,
                      [](std::span<const std::int64_t>, std::uint32_t*) { ADD_FAILURE(); });
  });
}

TEST_F(Api, OneCallAtATime) {
  const TokenView one = view(tokens, false);
  const std::int64_t row = 3;
  float out[kBases];
  const std::vector<std::function<void()>> calls = {
      [&] {
        session.log_probs({&one, 1}, {&row, 1}, out);
      },
      [&] {
        session.hidden({&one, 1}, 1, [](std::int64_t, int, const float*) {});
      },
      [&] { session.for_each(3, [](int, std::int64_t) {}); },
      [&] {
        score_sequences(session, {&one, 1});
      },
      [&] {
        base_embeddings(session, {&one, 1});
      },
  };
  for (const auto& inner : calls) {
    int asked = 0;
    const auto nested = [&] {
      ++asked;
      expect_misuse("one at a time", inner);
    };
    session.hidden({&one, 1}, 1, [&](std::int64_t, int, const float*) { nested(); });
    session.for_each(1, [&](int, std::int64_t) { nested(); });
    EXPECT_EQ(asked, 2);
  }
  for (const auto& call : calls) EXPECT_NO_THROW(call());
}

TEST_F(Api, AForkedProcessHasNoSession) {
  Session two(model, {.threads = 2});
  const pid_t child = fork();
  if (child == 0) {
    int code = 1;
    try {
      auto inherited = std::make_unique<Session>(model, SessionOptions{.threads = 1});
      two.for_each(3, [](int, std::int64_t) {});
    } catch (const Error& error) {
      code = error.kind() == ErrorKind::kUsage ? 0 : 2;
    }
    two.~Session();  // joins no thread of the parent's
    _exit(code);
  }
  int status = -1;
  for (int i = 0; i < 600 && waitpid(child, &status, WNOHANG) == 0; ++i) usleep(100'000);
  ASSERT_TRUE(WIFEXITED(status)) << "it hangs";
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST(ApiTokens, EveryByteIsANucleotideOrAnError) {
  const std::string codes = "ACGTUNRYSWKMBDHV";
  for (int byte = 0; byte < 256; ++byte) {
    const std::string letters = std::string("AC") + static_cast<char>(byte) + "G";
    const auto known = codes.find(static_cast<char>(std::toupper(byte)));
    if (byte < 128 && byte != 0 && known != std::string::npos) {
      const Token want = known < 4 ? static_cast<Token>(known) : known == 4 ? kTokenT : kTokenN;
      EXPECT_EQ(tokenize(letters), (std::vector<Token>{kTokenA, kTokenC, want, kTokenG}));
    } else {
      expect_refusal(ErrorKind::kInput, "sequence: position 3: ", [&] { tokenize(letters); });
    }
  }
  EXPECT_TRUE(tokenize("").empty());
  std::vector<Token> every;
  for (int token = 0; token < 256; ++token) every.push_back(static_cast<Token>(token));
  reverse_complement(every);
  for (int token = 0; token < 256; ++token) {
    EXPECT_EQ(every[static_cast<std::size_t>(255 - token)], token < 4 ? 3 - token : token);
  }
  reverse_complement({});
}

TEST_F(Api, MemoryOfImpossibleSizes) {
  for (const std::int64_t n : {std::int64_t{-1}, std::numeric_limits<std::int64_t>::max(),
                               std::numeric_limits<std::int64_t>::min()}) {
    expect_misuse("memory_needed", [&] { session.memory_needed(n, 1); });
    expect_misuse("memory_needed", [&] { session.memory_needed(1, n); });
    expect_misuse("memory_needed", [&] { session.memory_needed(1, 1, n); });
  }
  EXPECT_EQ(session.device_memory_needed(1000), 0u);  // the CPU has none of its own
  EXPECT_EQ(session.device_memory_available(), 0u);
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
    expect_refusal(ErrorKind::kModel, "config", [&] { with_memory(other, {}, 1); });
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
  expect_refusal(ErrorKind::kIo, "", [] { load_model(""); });
  expect_refusal(ErrorKind::kIo, "", [&] { save_model(model, ""); });
  for (const char* folder : {"/", "."}) {
    expect_refusal(ErrorKind::kIo, folder, [&] { load_model(folder); });
    expect_refusal(ErrorKind::kIo, folder, [&] { save_model(model, folder); });
  }
  broken = model;
  broken.parameters.pop_back();
  expect_misuse("parameters", [&] { with_memory(broken, MemoryConfig::standard(), 1); });
  MemoryConfig odd;
  odd.orders = {{1, 2}};  // without {2, 1}
  expect_refusal(ErrorKind::kModel, "memory order", [&] { with_memory(model, odd, 1); });
}

TEST_F(Api, ModelsLargerThanTheMachine) {
  ModelConfig large;
  large.dim = large.heads = 8192;
  large.ff_dim = 65536;
  large.layers = 256;  // 1.8 TB
  set_max_memory(1'000'000'000'000);
  expect_refusal(ErrorKind::kResource, "model 'custom'", [&] { initial_model(large, 1); });
  set_max_memory(0);
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
  config.name = "\xff";  // no UTF-8
  EXPECT_NE(config.to_json().find("name"), std::string::npos);
  expect_misuse("unknown preset", [] { ModelConfig::preset("huge"); });
  expect_refusal(ErrorKind::kModel, "here", [] { ModelConfig::from_json("[", "here"); });
}

}  // namespace
}  // namespace m5
