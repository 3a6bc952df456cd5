#include "data/windows.hpp"

#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>
#include <map>
#include <set>

#include "base/random.hpp"
#include "m5/error.hpp"

namespace m5 {
namespace {

// Tokens that tell where they come from: the position modulo 5.
std::vector<Token> sequence(std::int64_t length) {
  std::vector<Token> tokens;
  for (std::int64_t i = 0; i < length; ++i) tokens.push_back(static_cast<Token>(i % 5));
  return tokens;
}

GenomeStore store_of(std::initializer_list<std::pair<std::int64_t, bool>> records) {
  GenomeStore store;
  store.files.push_back("test");
  for (const auto& [length, circular] : records) store.add("r", sequence(length), circular);
  return store;
}

TEST(Windows, AreAFunctionOfTheId) {
  const GenomeStore store = store_of({{1000, false}, {700, true}});
  const WindowSampler a(store, 0.5), b(store, 0.5);
  std::set<std::pair<std::int64_t, std::int64_t>> starts;
  for (std::int64_t step = 1; step <= 20; ++step) {
    for (std::int64_t index = 0; index < 5; ++index) {
      const Window window = a.draw({7, step, index}, 64);
      EXPECT_EQ(window, b.draw({7, step, index}, 64));
      starts.insert({window.record, window.start});
    }
  }
  EXPECT_GT(starts.size(), 90u);  // 100 draws from about 1637 starts: few coincide
  EXPECT_NE(a.draw({7, 1, 0}, 64), a.draw({8, 1, 0}, 64));
}

TEST(Windows, RecordsAreDrawnByLengthAndStartsUniformly) {
  const GenomeStore store = store_of({{3000, false}, {1000, true}, {10, false}});
  const WindowSampler sampler(store, 0.25);
  std::map<std::int64_t, int> records;
  int reversed = 0, first_half = 0;
  constexpr int kDraws = 20000;
  std::int64_t greatest = 0;
  for (int i = 0; i < kDraws; ++i) {
    const Window w = sampler.draw({1, i + 1, 0}, 100);
    ++records[w.record];
    reversed += w.reverse_complement;
    if (w.record == 0) {
      first_half += w.start < 1450;  // half of the 2901 starts
      EXPECT_LE(w.start + w.length, 3000);
      greatest = std::max(greatest, w.start);
    }
    if (w.record == 2) {
      EXPECT_EQ(w.length, 10);
      EXPECT_EQ(w.start, 0);
    } else {
      EXPECT_EQ(w.length, 100);
      EXPECT_FALSE(w.circular);
    }
  }
  // Six standard deviations of a binomial count.
  EXPECT_NEAR(records[0], kDraws * 3000.0 / 4010, 370);
  EXPECT_NEAR(records[1], kDraws * 1000.0 / 4010, 370);
  EXPECT_NEAR(records[2], kDraws * 10.0 / 4010, 43);
  EXPECT_NEAR(reversed, kDraws * 0.25, 368);
  EXPECT_NEAR(first_half, records[0] * 1450.0 / 2901, 370);
  EXPECT_GT(greatest, 2880);  // the last starts are reached
}

TEST(Windows, OfACircularRecordRunOverTheOrigin) {
  const GenomeStore store = store_of({{103, true}});
  std::vector<Token> tokens;
  append_window(store, {.record = 0, .start = 100, .length = 6}, tokens);
  EXPECT_EQ(tokens, (std::vector<Token>{0, 1, 2, 0, 1, 2}));
  bool wraps = false;
  const WindowSampler sampler(store, 0);
  for (std::int64_t i = 1; i <= 200; ++i) {
    const Window w = sampler.draw({1, i, 0}, 50);
    wraps |= w.start + w.length > 103;
    EXPECT_LT(w.start, 103);
    EXPECT_FALSE(w.circular);
  }
  EXPECT_TRUE(wraps);
}

TEST(Windows, AWholeCircularRecordStaysCircular) {
  const GenomeStore store = store_of({{50, true}});
  const WindowSampler sampler(store, 0);
  for (const std::int64_t length : {50, 51, 1000}) {
    const Window w = sampler.draw({1, 1, 0}, length);
    EXPECT_TRUE(w.circular);
    EXPECT_EQ(w.length, 50);
    EXPECT_EQ(w.start, 0);
  }
  EXPECT_FALSE(sampler.draw({1, 1, 0}, 49).circular);
}

TEST(Windows, ReverseComplementReversesAndComplements) {
  GenomeStore store;
  store.add("r", std::vector<Token>{kTokenA, kTokenC, kTokenN, kTokenT, kTokenG}, false);
  std::vector<Token> tokens{kTokenC};  // what is there already stays
  append_window(store, {.record = 0, .start = 0, .length = 4, .reverse_complement = true}, tokens);
  EXPECT_EQ(tokens, (std::vector<Token>{kTokenC, kTokenA, kTokenN, kTokenG, kTokenT}));
}

TEST(Windows, OneNucleotideWorks) {
  const GenomeStore store = store_of({{1, false}});
  EXPECT_EQ(WindowSampler(store, 1).draw({1, 1, 0}, 1).length, 1);
  EXPECT_THROW(WindowSampler(GenomeStore{}, 0), Error);
  GenomeStore unknown;  // nothing could be asked about
  unknown.add("n", std::vector<Token>(100, kTokenN), false);
  EXPECT_THROW(WindowSampler(unknown, 0), Error);
  unknown.add("a", std::vector<Token>{kTokenN, kTokenA}, false);
  EXPECT_NO_THROW(WindowSampler(unknown, 0));
}

TEST(ValidationWindows, SpreadOverTheStoreUpToTheLimit) {
  const GenomeStore store = store_of({{1000, false}, {30, true}, {970, true}});
  const std::vector<Window> windows = validation_windows(store, 100, 1000);
  ASSERT_EQ(windows.size(), 10u);
  std::int64_t tokens = 0;
  for (std::size_t i = 0; i < windows.size(); ++i) {
    const Window& w = windows[i];
    tokens += w.length;
    EXPECT_FALSE(w.reverse_complement);
    EXPECT_LE(w.start + w.length, store.records[static_cast<std::size_t>(w.record)].length);
    for (std::size_t j = 0; j < i; ++j) EXPECT_FALSE(w == windows[j]);
  }
  EXPECT_LE(tokens, 1000);
  EXPECT_EQ(windows[0].start, 0);
  EXPECT_EQ(windows[1].start, 200);
  EXPECT_EQ(windows[5].record, 1);  // nt 1000 to 1029: a whole circular record
  EXPECT_TRUE(windows[5].circular);
  // A limit below one window, or above all there is.
  EXPECT_EQ(validation_windows(store, 100, 5).size(), 1u);
  EXPECT_EQ(validation_windows(store, 5000, 1000000).size(), 1u);
}

TEST(GenomeStore, DigestKnowsTokensLengthsAndTopology) {
  EXPECT_EQ(store_of({{10, false}, {5, true}}).digest(),
            store_of({{10, false}, {5, true}}).digest());
  EXPECT_NE(store_of({{10, false}, {5, true}}).digest(),
            store_of({{10, false}, {5, false}}).digest());
  EXPECT_NE(store_of({{10, false}, {5, true}}).digest(), store_of({{15, false}}).digest());
  EXPECT_NE(store_of({{10, false}, {5, true}}).digest(),
            store_of({{5, true}, {10, false}}).digest());
}

class GenomeFiles : public testing::Test {
 protected:
  std::string write(const std::string& name, const std::string& text) {
    const std::string path = testing::TempDir() + "windows_test_" + name;
    std::ofstream(path, std::ios::binary) << text;
    paths_.push_back(path);
    return path;
  }
  void TearDown() override {
    for (const std::string& path : paths_) std::remove(path.c_str());
  }
  std::vector<std::string> paths_;
};

TEST_F(GenomeFiles, LoadKeepsRecordsFilesAndTopology) {
  const std::string a = write("a.fa", ">x topology=circular\nACGT\nnn\n>y\nTT\n");
  const std::string b = write("b.fa", ">z\nG\n");
  const GenomeStore store = load_genomes({a, b}, {}, {});
  ASSERT_EQ(store.records.size(), 3u);
  EXPECT_EQ(store.total(), 9);
  EXPECT_EQ(store.records[0].name, "x");
  EXPECT_TRUE(store.records[0].circular);
  EXPECT_FALSE(store.records[1].circular);
  EXPECT_EQ(store.records[1].offset, 6);
  EXPECT_EQ(store.records[2].file, 1);
  EXPECT_EQ(*store.begin_of(store.records[2]), kTokenG);
  EXPECT_TRUE(load_genomes({b}, {.rule = Topology::Rule::kCircular}, {}).records[0].circular);
  EXPECT_FALSE(load_genomes({a}, {.rule = Topology::Rule::kLinear}, {}).records[0].circular);
  EXPECT_THROW(load_genomes({}, {}, {}), Error);
}

TEST_F(GenomeFiles, ListNamesTheLineThatCannotBeRead) {
  const std::string a = write("a.fa", ">x\nA\n");
  const std::string list = write("list", "# genomes\n" + a + "\r\n\n" + a + "\n");
  EXPECT_EQ(read_file_list(list), (std::vector<std::string>{a, a}));
  const std::string bad = write("bad", a + "\n/no/such/file.fa\n");
  try {
    read_file_list(bad);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kInput);
    EXPECT_NE(std::string(error.what()).find("line 2"), std::string::npos) << error.what();
  }
  EXPECT_THROW(read_file_list(write("empty", "\n")), Error);
}

}  // namespace
}  // namespace m5
