// Scores with a genome memory keep the promises of scores without.
#include "nn/memories.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "m5/model.hpp"
#include "nn/scoring.hpp"

namespace m5 {
namespace {

Model model_with_memory() {
  ModelConfig config;
  config.dim = 16;
  config.layers = 1;
  config.heads = 8;
  config.ff_dim = 32;
  config.order = 2;
  config.bound = 1.0;
  config.window = 2;
  config.local_conv = {{3, 1}};
  config.memory.orders = {{1, 1}, {3, 3}, {0, 6}, {6, 0}, {2, 5}, {5, 2}, {0, 12}, {12, 0}};
  config.memory.hidden = 8;
  config.validate();
  Model model = initial_model(config, 5);
  std::mt19937 random(6);
  for (float& value : model.parameters) {  // the mixing weights, too
    value = 1.5f * value + 0.2f * (static_cast<float>(random() % 2001) / 1000 - 1);
  }
  return model;
}

// Half of it random, half copies of what came before, some of them reverse complements; a few N.
std::vector<Token> genome(int length, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<Token> g;
  while (static_cast<int>(g.size()) < length) {
    if (g.size() > 50 && random() % 2 == 0) {
      const std::size_t from = random() % (g.size() - 30);
      std::vector<Token> copy(g.begin() + static_cast<std::ptrdiff_t>(from),
                              g.begin() + static_cast<std::ptrdiff_t>(from + 30));
      if (random() % 2 == 0) {
        std::reverse(copy.begin(), copy.end());
        for (Token& t : copy) t = complement(t);
      }
      g.insert(g.end(), copy.begin(), copy.end());
    } else {
      for (int i = 0; i < 20; ++i) g.push_back(static_cast<Token>(random() % 4));
      if (random() % 4 == 0) g.push_back(kTokenN);
    }
  }
  g.resize(static_cast<std::size_t>(length));
  return g;
}

TokenView view_of(const std::vector<Token>& tokens, bool circular, std::int64_t context = 0) {
  return {tokens.data(), static_cast<std::int64_t>(tokens.size()), circular, context};
}

// Rows of windows ask about the positions that they are of, over the ends of circles, too.
TEST(Memories, WindowsAreOfTheirSequences) {
  const Model model = model_with_memory();
  const auto a = genome(700, 1), b = genome(90, 2);
  const std::vector<TokenView> views = {view_of(a, true), view_of(b, false, 1)};
  const Memories memories(views, model.config.memory, serial_for);
  const std::size_t width = model.config.memory.orders.size() * kBases;
  const std::vector<Memories::Window> windows = {{1, 10, 30}, {0, -50, 120}, {0, 650, 100},
                                                 {0, 0, 700}, {1, 89, 1},    {0, 300, 7}};
  for (const bool reverse : {false, true}) {
    std::vector<std::int64_t> rows, sources;  // of the windows; of the sequences
    for (const Memories::Window& window : windows) {
      const std::int64_t length = views[window.sequence].length;
      const std::int64_t first_row = window.sequence == 0 ? 0 : 700;
      for (std::int64_t i = 0; i < window.length; ++i) {
        const std::int64_t forward = window.first + (reverse ? window.length - 1 - i : i);
        const std::int64_t position = (forward + length) % length;
        rows.push_back(static_cast<std::int64_t>(rows.size()));
        sources.push_back(first_row + (reverse ? length - 1 - position : position));
      }
    }
    std::vector<std::uint32_t> got(rows.size() * width), want(rows.size() * width);
    memories.counts(reverse, windows)(rows, got.data());
    memories.counts(reverse)(sources, want.data());
    EXPECT_EQ(got, want);
    EXPECT_GT(std::count_if(want.begin(), want.end(), [](std::uint32_t n) { return n > 0; }), 1000);
  }
}

std::vector<SequenceScores> score(Session& session, const std::vector<TokenView>& views,
                                  Strand strand = Strand::kForward, bool memory = true) {
  ScoringOptions options;
  options.strand = strand;
  options.all_bases = true;
  options.memory = memory;
  return score_sequences(session, views, options);
}

bool same(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(), [](float x, float y) {
           return x == y || (std::isnan(x) && std::isnan(y));
         });
}

TEST(Memory, ThreadsBlocksAndCompanyChangeNoByte) {
  const Model model = model_with_memory();
  const std::vector<Token> a = genome(3000, 1), b = genome(157, 2), c = genome(700, 3);
  std::vector<std::vector<float>> alone;
  {
    Session session(model, {.threads = 1});
    for (const auto* tokens : {&a, &b, &c}) {
      alone.push_back(score(session, {view_of(*tokens, false)})[0].log_probs);
    }
    EXPECT_FALSE(
        same(alone[0], score(session, {view_of(a, false)}, Strand::kForward, false)[0].log_probs));
  }
  for (const int threads : {1, 2, 3}) {
    for (const int block_rows : {128, 512}) {
      Session session(model, {.threads = threads, .block_rows = block_rows});
      const auto all =
          score(session, {view_of(a, false, 0), view_of(b, false, 1), view_of(c, false, 2)});
      for (std::size_t i = 0; i < 3; ++i) EXPECT_TRUE(same(all[i].log_probs, alone[i])) << i;
    }
  }
}

TEST(Memory, RecordsOfOneContextShareIt) {
  Session session(model_with_memory(), {.threads = 2});
  const std::vector<Token> a = genome(600, 4);
  const auto together = score(session, {view_of(a, false, 0), view_of(a, false, 0)});
  const auto apart = score(session, {view_of(a, false, 0), view_of(a, false, 1)});
  EXPECT_TRUE(same(together[0].log_probs, together[1].log_probs));
  EXPECT_FALSE(same(together[0].log_probs, apart[0].log_probs));
}

// Scored alone, a base changes neither its own four probabilities nor the counts behind them.
TEST(Memory, ABaseIsHiddenFromItsOwnScore) {
  Session session(model_with_memory(), {.threads = 1});
  const MemoryConfig& config = session.config().memory;
  std::vector<std::vector<Token>> genomes = {genome(400, 7)};
  std::vector<Token> block(genomes[0].begin(), genomes[0].begin() + 40), repeated;
  for (int i = 0; i < 10; ++i) repeated.insert(repeated.end(), block.begin(), block.end());
  genomes.push_back(repeated);
  genomes.emplace_back(std::size_t{300}, Token{0});  // poly-A
  std::vector<Token> palindrome(genomes[0].begin(), genomes[0].begin() + 100);
  for (int i = 99; i >= 0; --i) {
    palindrome.push_back(complement(palindrome[static_cast<std::size_t>(i)]));
  }
  genomes.push_back(palindrome);
  for (std::vector<Token>& tokens : genomes) {
    for (const bool circular : {false, true}) {
      for (const bool reverse : {false, true}) {
        for (std::size_t i = 3; i < tokens.size(); i += 37) {
          if (!is_base(tokens[i])) continue;
          const Token before = tokens[i];
          std::vector<float> first;
          std::vector<std::uint32_t> first_counts;
          for (Token base = 0; base < 4; ++base) {
            tokens[i] = base;
            std::vector<Token> read = tokens;
            auto row = static_cast<std::int64_t>(i);
            if (reverse) {
              std::reverse(read.begin(), read.end());
              for (Token& t : read) t = complement(t);
              row = static_cast<std::int64_t>(read.size()) - 1 - row;
            }
            const TokenView truth = view_of(tokens, circular);
            const Memories memories({&truth, 1}, config, serial_for);
            std::vector<std::uint32_t> counts(config.orders.size() * kBases);
            memories.counts(reverse)({&row, 1}, counts.data());
            read[static_cast<std::size_t>(row)] = kTokenMask;
            const TokenView masked = view_of(read, circular);
            std::vector<float> log_probs(kBases);
            session.log_probs({&masked, 1}, {&row, 1}, log_probs.data(), memories.counts(reverse));
            if (base == 0) {
              first = log_probs;
              first_counts = counts;
            }
            EXPECT_EQ(counts, first_counts) << i;
            EXPECT_EQ(log_probs, first) << i;
          }
          tokens[i] = before;
        }
      }
    }
  }
}

// K divides the length.
TEST(Memory, RotatingACircularRecordRotatesItsScores) {
  Session session(model_with_memory(), {.threads = 1});
  const std::vector<Token> tokens = genome(700, 8);
  std::vector<Token> rotated = tokens;
  constexpr int kBy = 7 * 31;
  std::rotate(rotated.begin(), rotated.begin() + kBy, rotated.end());
  std::vector<float> expected = score(session, {view_of(tokens, true)})[0].log_p;
  std::rotate(expected.begin(), expected.begin() + kBy, expected.end());
  const std::vector<float> actual = score(session, {view_of(rotated, true)})[0].log_p;
  for (std::size_t i = 0; i < actual.size(); ++i) {
    if (std::isnan(expected[i])) continue;
    EXPECT_NEAR(actual[i], expected[i], 1e-4) << i;  // sums over rows in another order
  }
}

TEST(Memory, ReverseComplementReversesBothStrands) {
  Session session(model_with_memory(), {.threads = 1});
  const std::vector<Token> tokens = genome(700, 9);
  std::vector<Token> other(tokens.rbegin(), tokens.rend());
  for (Token& t : other) t = complement(t);
  for (const bool circular : {false, true}) {
    const auto both = score(session, {view_of(tokens, circular)}, Strand::kBoth);
    auto mirrored = score(session, {view_of(other, circular)}, Strand::kBoth);
    std::reverse(mirrored[0].log_p.begin(), mirrored[0].log_p.end());
    EXPECT_TRUE(same(both[0].log_p, mirrored[0].log_p));
    const auto reverse = score(session, {view_of(tokens, circular)}, Strand::kReverse);
    auto forward = score(session, {view_of(other, circular)});
    std::reverse(forward[0].log_p.begin(), forward[0].log_p.end());
    EXPECT_TRUE(same(reverse[0].log_p, forward[0].log_p));
  }
}

TEST(Memory, IsAddedAndTakenAway) {
  Model plain = model_with_memory();
  plain = with_memory(plain, {}, 1);
  EXPECT_TRUE(plain.config.memory.empty());
  const Model added = with_memory(plain, MemoryConfig::standard(), 1);
  EXPECT_EQ(added.config.format_version(), 2);
  const std::vector<Token> tokens = genome(300, 10);
  Session without(plain, {.threads = 1}), with(added, {.threads = 1});
  const auto expected = score(without, {view_of(tokens, false)})[0].log_p;
  const auto actual = score(with, {view_of(tokens, false)})[0].log_p;
  for (std::size_t i = 0; i < actual.size(); ++i) {
    if (std::isnan(expected[i])) continue;
    EXPECT_NEAR(actual[i], expected[i], 1e-6);
  }
  EXPECT_EQ(with_memory(added, {}, 2).parameters, plain.parameters);
}

}  // namespace
}  // namespace m5
