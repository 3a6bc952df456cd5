// The k-mer baseline on sequences small enough to count by hand, and against plain counting.
#include "data/kmer_baseline.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>

#include "base/random.hpp"
#include "m5/error.hpp"

namespace m5 {
namespace {

std::vector<Token> tokens(const std::string& letters) {
  std::vector<Token> t;
  for (const char c : letters) {
    const auto i = std::string("ACGTN?").find(c);
    t.push_back(static_cast<Token>(i));
  }
  return t;
}

TokenView view(const std::vector<Token>& t, bool circular = false) {
  return {t.data(), static_cast<std::int64_t>(t.size()), circular, 0};
}

std::vector<Token> random_tokens(std::size_t length, std::uint64_t seed, double n_fraction = 0) {
  std::vector<Token> t(length);
  for (std::size_t i = 0; i < length; ++i) {
    t[i] =
        uniform(seed + 1, i) < n_fraction ? kTokenN : static_cast<Token>(uniform_below(seed, i, 4));
  }
  return t;
}

using Counts = std::array<std::uint32_t, 4>;

TEST(KmerBaseline, CountsBothStrandsOfOneContext) {
  KmerBaseline k(2);
  const auto t = tokens("AACGT");  // the other strand reads ACGTT
  k.add(view(t));
  k.finish();
  // AA.GT has centre C; on the other strand AC.TT has centre G.
  EXPECT_EQ(k.counts(tokens("AA"), tokens("GT")), (Counts{0, 1, 0, 0}));
  EXPECT_EQ(k.counts(tokens("AC"), tokens("TT")), (Counts{0, 0, 1, 0}));
  EXPECT_EQ(k.counts(tokens("AA"), tokens("GG")), (Counts{0, 0, 0, 0}));
  // One neighbour a side: A[A]C A[C]G C[G]T, and A[C]G C[G]T G[T]T on the other strand.
  EXPECT_EQ(k.counts(tokens("A"), tokens("C")), (Counts{1, 0, 0, 0}));
  EXPECT_EQ(k.counts(tokens("A"), tokens("G")), (Counts{0, 2, 0, 0}));
  EXPECT_EQ(k.counts(tokens("C"), tokens("T")), (Counts{0, 0, 2, 0}));
  EXPECT_EQ(k.counts(tokens("G"), tokens("T")), (Counts{0, 0, 0, 1}));
  // No neighbours: A 2, C 1, G 1, T 1 and their complements.
  EXPECT_EQ(k.counts({}, {}), (Counts{3, 2, 2, 3}));
  EXPECT_EQ(k.bases(), 5);
}

TEST(KmerBaseline, PalindromicContextCountsBothReadings) {
  KmerBaseline k(1);
  const auto t = tokens("ACT");  // A.T reads A.T on the other strand, with centre G
  k.add(view(t));
  k.finish();
  EXPECT_EQ(k.counts(tokens("A"), tokens("T")), (Counts{0, 1, 1, 0}));
}

TEST(KmerBaseline, CircularSequencesWrap) {
  const auto t = tokens("ACG");
  KmerBaseline linear(1), circular(1);
  linear.add(view(t));
  circular.add(view(t, true));
  linear.finish();
  circular.finish();
  EXPECT_EQ(linear.counts(tokens("G"), tokens("C")), (Counts{0, 0, 0, 0}));
  EXPECT_EQ(circular.counts(tokens("G"), tokens("C")), (Counts{1, 0, 0, 1}));  // G[A]C, and G[T]C
  EXPECT_EQ(circular.counts(tokens("C"), tokens("A")), (Counts{0, 0, 1, 0}));  // C[G]A
}

TEST(KmerBaseline, InterpolatesByHand) {
  KmerBaseline k(1);
  const auto t = tokens("AACGT");
  k.add(view(t));
  k.finish();
  const double a0 = k.alpha(0), a1 = k.alpha(1);
  const auto query = tokens("A?G");
  const auto p = k.predict(view(query), 1);
  const double p0 = (2 + a0 / 4) / (10 + a0);  // C
  EXPECT_NEAR(p[0][kTokenC], p0, 1e-15);
  EXPECT_NEAR(p[1][kTokenC], (2 + a1 * p0) / (2 + a1), 1e-15);
  EXPECT_EQ(p[KmerBaseline::kMaxSide], p[1]);  // nothing longer was counted
}

TEST(KmerBaseline, UnknownNeighboursAndEndsShortenTheContext) {
  const auto t = random_tokens(5000, 3);
  KmerBaseline k(3);
  k.add(view(t));
  k.finish();
  const auto full = tokens("ACGTACG");
  const auto p = k.predict(view(full), 3);
  EXPECT_NE(p[3], p[1]);
  for (const char* unknown : {"ANGTACG", "ACGTANG", "CGTAC", "TTNGTANTT"}) {
    const auto q = tokens(unknown);
    const auto middle = static_cast<std::int64_t>(q.size() / 2);
    const auto seen = k.predict(view(q), middle);
    EXPECT_EQ(seen[1], p[1]) << unknown;
    const bool two = std::string(unknown) == "CGTAC";
    EXPECT_EQ(seen[3], two ? p[2] : p[1]) << unknown;
  }
  const auto edge = tokens("TACG");  // circular: ACG on the left of T too
  EXPECT_EQ(k.predict(view(edge), 0)[3], k.predict(view(edge), 0)[0]);
  EXPECT_EQ(k.predict(view(edge, true), 0)[3], p[3]);
}

// A hidden neighbour may be any base: its counts are the sum over the four.
TEST(KmerBaseline, HiddenNeighboursAreSummedOver) {
  const auto t = random_tokens(20000, 3);
  KmerBaseline k(2);
  k.add(view(t));
  k.finish();
  const auto q = tokens("A?TAC");
  const auto p = k.predict(view(q), 2);
  Counts one{}, two{};
  for (Token b = 0; b < 4; ++b) {
    const auto c1 = k.counts({b}, {kTokenA}), c2 = k.counts({kTokenA, b}, tokens("AC"));
    for (std::size_t i = 0; i < 4; ++i) {
      one[i] += c1[i];
      two[i] += c2[i];
    }
  }
  const auto total = [](const Counts& c) { return static_cast<double>(c[0] + c[1] + c[2] + c[3]); };
  for (std::size_t b = 0; b < 4; ++b) {
    const double p1 = (one[b] + k.alpha(1) * p[0][b]) / (total(one) + k.alpha(1));
    EXPECT_NEAR(p[1][b], p1, 1e-14);
    EXPECT_NEAR(p[2][b], (two[b] + k.alpha(2) * p1) / (total(two) + k.alpha(2)), 1e-14);
  }
  // Four hidden neighbours are still summed: nothing is known, the counts are those of no context
  // but for the ends of the sequence.
  const auto none = k.predict(view(tokens("??T??")), 2);
  for (std::size_t b = 0; b < 4; ++b) EXPECT_NEAR(none[2][b], none[0][b], 1e-3);
  KmerBaseline wide(3);
  wide.add(view(t));
  wide.finish();
  const auto five = wide.predict(view(tokens("C??T??G")), 3);  // 4 hidden: 256 contexts
  const auto six = wide.predict(view(tokens("???T??G")), 3);   // 5 hidden: ends at two neighbours
  EXPECT_NE(five[3], five[2]);
  EXPECT_EQ(six[3], six[2]);
}

// Every table against counting by strings, over lengths around the block of 65,536 nt, with N.
TEST(KmerBaseline, AgreesWithPlainCounting) {
  const auto t = random_tokens(150000, 11, 0.01);
  std::vector<Token> back(t.rbegin(), t.rend());
  for (Token& b : back) b = complement(b);
  for (const bool circular : {false, true}) {
    KmerBaseline k(2);
    k.add(view(t, circular));
    k.finish();
    std::map<std::string, Counts> expected;  // left, then right
    for (const std::vector<Token>* strand : {&t, static_cast<const std::vector<Token>*>(&back)}) {
      const auto length = static_cast<std::int64_t>(strand->size());
      for (std::int64_t i = 0; i < length; ++i) {
        if (!is_base((*strand)[static_cast<std::size_t>(i)])) continue;
        for (int n = 0; n <= 2; ++n) {
          std::string context;
          for (std::int64_t j = i - n; j <= i + n; ++j) {
            if (j == i) continue;
            if (!circular && (j < 0 || j >= length)) break;
            const Token b = (*strand)[static_cast<std::size_t>((j + length) % length)];
            if (!is_base(b)) break;
            context.push_back(static_cast<char>(b));
          }
          if (context.size() != static_cast<std::size_t>(2 * n)) break;
          ++expected[context][(*strand)[static_cast<std::size_t>(i)]];
        }
      }
    }
    for (const auto& [context, counts] : expected) {
      const auto middle = context.begin() + static_cast<std::ptrdiff_t>(context.size() / 2);
      EXPECT_EQ(k.counts({context.begin(), middle}, {middle, context.end()}), counts);
    }
    EXPECT_EQ(expected.size(), 1u + 16 + 256);
  }
}

// More than 32 blocks: some are held out to choose the alphas, and counted all the same.
TEST(KmerBaseline, HeldBlocksAreCountedInTheEnd) {
  const std::size_t length = 65536 * 40;
  auto t = random_tokens(length, 5);
  for (std::size_t i = 2; i < length; i += 3) t[i] = t[i - 2];  // X Y X: a base its neighbour tells
  KmerBaseline k(3);
  k.add(view(t));
  k.finish();
  const auto zero = k.counts({}, {});
  EXPECT_EQ(std::uint64_t{zero[0]} + zero[1] + zero[2] + zero[3], 2 * length);
  std::uint64_t total = 0;  // all but one position at each end have a neighbour on both sides
  for (Token l = 0; l < 4; ++l) {
    for (Token r = 0; r < 4; ++r) {
      for (const auto c : k.counts({l}, {r})) total += c;
    }
  }
  EXPECT_EQ(total, 2 * (length - 2));
  EXPECT_NEAR(k.held_bits(0), 2.0, 1e-3);
  EXPECT_LT(k.held_bits(2), 1.95);
  EXPECT_GE(k.best_side(), 2);
  // Random sequence has nothing to tell: long contexts must not be believed.
  KmerBaseline noise(3);
  const auto u = random_tokens(length, 6);
  noise.add(view(u));
  noise.finish();
  EXPECT_NEAR(noise.held_bits(3), 2.0, 1e-3);
  EXPECT_GT(noise.alpha(3), 100);
}

TEST(KmerBaseline, ProbabilitiesAddUpToOne) {
  const auto t = random_tokens(20000, 17, 0.02);
  KmerBaseline k(4);
  k.add(view(t));
  k.finish();
  for (std::int64_t i = 0; i < 500; ++i) {
    const auto p = k.predict(view(t), i);
    for (const auto& at : p) {
      double sum = 0;
      for (const double x : at) {
        EXPECT_GT(x, 0);
        sum += x;
      }
      EXPECT_NEAR(sum, 1, 1e-12);
    }
  }
}

TEST(KmerBaseline, TheBaseItselfIsNotLookedAt) {
  const auto t = random_tokens(3000, 23);
  KmerBaseline k(2);
  k.add(view(t));
  k.finish();
  auto q = t;
  const auto before = k.predict(view(q), 100);
  q[100] = kTokenMask;
  EXPECT_EQ(k.predict(view(q), 100), before);
}

class KmerCache : public ::testing::Test {
 protected:
  void SetUp() override {
    directory_ = std::filesystem::temp_directory_path() /
                 ("m5-kmer-" + std::to_string(::testing::UnitTest::GetInstance()->random_seed()) +
                  "-" + ::testing::UnitTest::GetInstance()->current_test_info()->name());
    std::filesystem::create_directories(directory_);
    path_ = (directory_ / "table").string();
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }
  std::filesystem::path directory_;
  std::string path_;
};

TEST_F(KmerCache, ComesBackAsItWas) {
  const auto t = random_tokens(9000, 31);
  KmerBaseline k(2);
  k.add(view(t));
  k.finish();
  k.save(path_, "files");
  std::string reason;
  const auto other = KmerBaseline::load(path_, 2, "files", &reason);
  ASSERT_TRUE(other) << reason;
  EXPECT_EQ(other->bases(), k.bases());
  for (std::int64_t i = 0; i < 100; ++i) {
    EXPECT_EQ(other->predict(view(t), i), k.predict(view(t), i));
  }
  EXPECT_TRUE(KmerBaseline::load(path_, 2, "", &reason));
  EXPECT_FALSE(KmerBaseline::load(path_, 2, "other files", &reason));
  EXPECT_EQ(reason, "was counted on other training files");
  EXPECT_FALSE(KmerBaseline::load(path_, 3, "files", &reason));
  EXPECT_FALSE(KmerBaseline::load(path_ + ".none", 2, "files", &reason));
}

TEST_F(KmerCache, DamageIsRefused) {
  const auto t = random_tokens(2000, 37);
  KmerBaseline k(1);
  k.add(view(t));
  k.finish();
  k.save(path_, "f");
  std::ifstream in(path_, std::ios::binary);
  const std::string whole((std::istreambuf_iterator<char>(in)), {});
  auto loads = [&](const std::string& bytes) {
    std::ofstream(path_, std::ios::binary) << bytes;
    std::string reason;
    return KmerBaseline::load(path_, 1, "f", &reason).has_value();
  };
  ASSERT_TRUE(loads(whole));
  for (std::size_t cut = 0; cut < whole.size(); cut += 7) EXPECT_FALSE(loads(whole.substr(0, cut)));
  EXPECT_FALSE(loads(whole + "x"));
  for (std::size_t i = 0; i < whole.size(); i += 3) {
    std::string bad = whole;
    bad[i] = static_cast<char>(bad[i] ^ 0x10);
    EXPECT_FALSE(loads(bad)) << "byte " << i;
  }
}

TEST(KmerBaseline, RefusesContextsItCannotHold) {
  EXPECT_THROW(KmerBaseline(0), Error);
  EXPECT_THROW(KmerBaseline(7), Error);
}

}  // namespace
}  // namespace m5
