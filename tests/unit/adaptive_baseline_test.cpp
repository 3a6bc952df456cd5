// The adaptive baseline against plain loops over all pairs of windows.
#include "data/adaptive_baseline.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>

#include "base/random.hpp"
#include "base/thread_pool.hpp"
#include "data/tokenizer.hpp"
#include "m5/error.hpp"
#include "tests/unit/sequences.hpp"

namespace m5 {
namespace {

using test::joined;
using test::random_tokens;
using test::Sequence;
struct Segment {
  Sequence tokens;
  bool circular = false;
};
using Four = std::array<double, kBases>;

// Each base from the two before it, so that contexts tell something.
Sequence markov(std::size_t length, std::uint64_t seed) {
  Sequence t = random_tokens(length, seed);
  for (std::size_t i = 2; i < length; ++i) {
    const std::uint64_t context = t[i - 1] * 4u + t[i - 2];
    if (uniform(seed + 1, i) < 0.6) t[i] = static_cast<Token>(uniform_below(5, context, 4));
  }
  return t;
}

// Copies with a substitution every so often, and a gap.
Sequence copies(const Sequence& unit, int times, std::uint64_t seed) {
  Sequence t;
  for (int k = 0; k < times; ++k) t = joined(std::move(t), unit);
  for (std::size_t i = 0; i < t.size(); ++i) {
    if (uniform(seed, i) < 0.05) t[i] = static_cast<Token>(uniform_below(seed + 1, i, 4));
  }
  t[t.size() / 3] = kTokenN;
  return t;
}

// The token at `at` of one strand; PAD beyond the ends.
Token token_at(const Segment& s, std::int64_t at, bool reverse) {
  const auto length = static_cast<std::int64_t>(s.tokens.size());
  if (s.circular) at = ((at % length) + length) % length;
  if (at < 0 || at >= length) return kTokenPad;
  const Token t = s.tokens[static_cast<std::size_t>(at)];
  return reverse ? complement(t) : t;
}

// Whether the window of k neighbours a side around `at`, read on one strand, has the context of
// `asked` on the forward one.
bool same_context(const Segment& s, std::int64_t at, bool reverse, std::int64_t asked, int k) {
  for (int o = -k; o <= k; ++o) {
    const Token t = token_at(s, at + (reverse ? -o : o), reverse);
    if (!is_base(t) || (o != 0 && t != token_at(s, asked + o, false))) return false;
  }
  return true;
}

Four plain_counts(const Segment& s, std::int64_t asked, int k) {
  Four counts{};
  const auto length = static_cast<std::int64_t>(s.tokens.size());
  if (2 * k + 1 > length || !same_context(s, asked, false, asked, k)) return counts;
  for (std::int64_t at = 0; at < length; ++at) {
    std::int64_t apart = std::abs(at - asked);
    if (s.circular) apart = std::min(apart, length - apart);
    if (apart <= k) continue;  // the window contains the base
    for (const bool reverse : {false, true}) {
      if (same_context(s, at, reverse, asked, k)) ++counts[token_at(s, at, reverse)];
    }
  }
  return counts;
}

struct Plain {
  double bits = 0;
  std::int64_t correct = 0;
  std::array<double, AdaptiveResult::kMaxSide + 1> alpha_by_k{};
};

Plain plain_baseline(const std::vector<Segment>& segments, const std::vector<AskedBase>& asked,
                     const std::vector<BaseProbabilities>& prior) {
  std::vector<Four> p;
  for (const BaseProbabilities& four : prior) p.push_back({four[0], four[1], four[2], four[3]});
  const auto target = [&](std::size_t i) {
    return segments[asked[i].segment].tokens[static_cast<std::size_t>(asked[i].position)];
  };
  const auto bits_of = [&](const std::vector<Four>& q) {
    double bits = 0;
    for (std::size_t i = 0; i < q.size(); ++i) bits -= std::log2(q[i][target(i)]);
    return bits;
  };
  Plain result;
  result.bits = bits_of(p);
  for (int k = 0; k <= AdaptiveResult::kMaxSide; ++k) {
    std::vector<Four> counts, best;
    for (const AskedBase& a : asked) {
      counts.push_back(plain_counts(segments[a.segment], a.position, k));
    }
    double least = 1e300, best_alpha = 0;
    for (const double alpha : {2, 8, 32, 128, 512, 2048}) {
      std::vector<Four> q = p;
      for (std::size_t i = 0; i < q.size(); ++i) {
        const Four& n = counts[i];
        const double sum = n[0] + n[1] + n[2] + n[3];
        for (std::size_t b = 0; b < kBases; ++b) q[i][b] = (n[b] + alpha * p[i][b]) / (sum + alpha);
      }
      const double bits = bits_of(q);
      if (bits < least) {
        least = bits;
        best = std::move(q);
        best_alpha = alpha;
      }
    }
    if (least >= result.bits - 1e-4 * static_cast<double>(asked.size())) continue;
    p = std::move(best);
    result.bits = least;
    result.alpha_by_k[static_cast<std::size_t>(k)] = best_alpha;
  }
  for (std::size_t i = 0; i < p.size(); ++i) {
    result.correct += std::max_element(p[i].begin(), p[i].end()) - p[i].begin() == target(i);
  }
  return result;
}

struct Case {
  std::string name;
  std::vector<Segment> segments;
};

std::vector<Case> cases() {
  const Sequence unit = random_tokens(60, 3);
  const Sequence half = random_tokens(120, 4);
  return {
      {"one linear", {{markov(500, 1)}}},
      {"one circle", {{markov(500, 1), true}}},
      {"copies with gaps", {{copies(unit, 8, 7)}}},
      {"copies on a circle", {{copies(unit, 8, 7), true}}},
      {"palindrome", {{joined(half, test::reversed(half)), true}}},
      {"poly-A, and two letters", {{Sequence(90, kTokenA)}, {random_tokens(200, 9, 2), true}}},
      {"many, some shorter than a window",
       {{markov(150, 11)},
        {random_tokens(1, 12)},
        {random_tokens(6, 13), true},
        {Sequence{kTokenN, kTokenN}},
        {random_tokens(13, 14, 2), true},
        {copies(unit, 3, 15)}}},
  };
}

std::vector<TokenView> views(const std::vector<Segment>& segments) {
  std::vector<TokenView> v;
  for (const Segment& s : segments) {
    v.push_back({s.tokens.data(), static_cast<std::int64_t>(s.tokens.size()), s.circular,
                 static_cast<std::int64_t>(v.size())});
  }
  return v;
}

// One base in `every`.
std::vector<AskedBase> questions(const std::vector<Segment>& segments, std::size_t every) {
  std::vector<AskedBase> asked;
  for (std::size_t s = 0; s < segments.size(); ++s) {
    for (std::size_t i = 0; i < segments[s].tokens.size(); ++i) {
      if (!is_base(segments[s].tokens[i]) || uniform_below(99, asked.size() + i, every) != 0) {
        continue;
      }
      asked.push_back({s, static_cast<std::int64_t>(i)});
    }
  }
  return asked;
}

std::vector<BaseProbabilities> priors(std::size_t count, bool even) {
  std::vector<BaseProbabilities> p(count);
  for (std::size_t i = 0; i < count; ++i) {
    float sum = 0;
    for (std::size_t b = 0; b < kBases; ++b) {
      p[i][b] = even ? 0.25f : 0.1f + static_cast<float>(uniform(55, i * kBases + b));
      sum += p[i][b];
    }
    for (float& value : p[i]) value /= sum;
  }
  return p;
}

TEST(AdaptiveBaseline, EqualsCountingWindowByWindow) {
  int orders_used = 0;
  for (const Case& c : cases()) {
    for (const std::size_t every : {1, 5}) {
      for (const bool even : {true, false}) {
        SCOPED_TRACE(c.name + ", one in " + std::to_string(every) + (even ? ", even" : ""));
        const std::vector<AskedBase> asked = questions(c.segments, every);
        const auto prior = priors(asked.size(), even);
        const Plain plain = plain_baseline(c.segments, asked, prior);
        const AdaptiveResult r = adaptive_baseline(views(c.segments), asked, prior, serial_for);
        EXPECT_EQ(r.alpha_by_k, plain.alpha_by_k);
        EXPECT_NEAR(r.bits, plain.bits, 1e-5 * plain.bits + 1e-4);
        EXPECT_EQ(r.correct, plain.correct);
        for (const double alpha : r.alpha_by_k) orders_used += alpha > 0;
      }
    }
  }
  EXPECT_GT(orders_used, 40);  // else the counts were never asked
}

TEST(AdaptiveBaseline, ThreadsDoNotMatter) {
  for (const Case& c : cases()) {
    SCOPED_TRACE(c.name);
    const std::vector<AskedBase> asked = questions(c.segments, 1);
    const auto prior = priors(asked.size(), true);
    const AdaptiveResult one = adaptive_baseline(views(c.segments), asked, prior, serial_for);
    for (const int threads : {2, 3, 4}) {
      ThreadPool pool(threads);
      const AdaptiveResult r = adaptive_baseline(
          views(c.segments), asked, prior,
          [&pool](std::int64_t tasks, const auto& work) { pool.run(tasks, work); });
      EXPECT_EQ(r.bits, one.bits);
      EXPECT_EQ(r.correct, one.correct);
      EXPECT_EQ(r.alpha_by_k, one.alpha_by_k);
    }
  }
}

TEST(AdaptiveBaseline, NothingAskedIsNothing) {
  const Sequence t = random_tokens(30, 1);
  const TokenView view{t.data(), 30, false, 0};
  const AdaptiveResult r = adaptive_baseline(std::span(&view, 1), {}, {}, serial_for);
  EXPECT_EQ(r.bits, 0);
  EXPECT_EQ(r.correct, 0);
  const AskedBase asked{0, 3};
  EXPECT_THROW(adaptive_baseline(std::span(&view, 1), std::span(&asked, 1), {}, serial_for), Error);
}

}  // namespace
}  // namespace m5
