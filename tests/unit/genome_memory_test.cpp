// The genome memory against a count window by window, and the promise that a base's counts are a
// function of all other bases.
#include "data/genome_memory.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
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
struct Record {
  Sequence tokens;
  bool circular = false;
};
using Genome = std::vector<Record>;
using Counts = std::array<std::uint32_t, 4>;

Sequence repeat(const Sequence& unit, std::size_t times) {
  Sequence t;
  for (std::size_t k = 0; k < times; ++k) t.insert(t.end(), unit.begin(), unit.end());
  return t;
}

Sequence with_gaps(Sequence t, std::uint64_t seed, double share) {
  for (std::size_t i = 0; i < t.size(); ++i) {
    if (uniform(seed, i) < share) t[i] = i % 3 == 0 ? kTokenMask : kTokenN;
  }
  return t;
}

// A stretch and its reverse complement, so that every window is there on both strands.
Sequence palindrome(const Sequence& half) { return joined(half, test::reversed(half)); }

// Every order of up to 6 neighbours, and long ones.
std::vector<MemoryOrder> all_orders() {
  std::vector<MemoryOrder> orders;
  for (int left = 0; left <= 6; ++left) {
    for (int right = left == 0 ? 1 : 0; left + right <= 6; ++right) orders.push_back({left, right});
  }
  for (const MemoryOrder& o : {MemoryOrder{5, 5},
                               {6, 6},
                               {11, 0},
                               {0, 11},
                               {3, 8},
                               {8, 3},
                               {11, 11},
                               {0, 14},
                               {14, 0},
                               {24, 0},
                               {0, 24},
                               {15, 15},
                               {31, 0},
                               {0, 31},
                               {16, 15},
                               {15, 16}}) {
    orders.push_back(o);
  }
  return orders;
}

std::vector<TokenView> views(const Genome& genome) {
  std::vector<TokenView> v;
  for (const Record& r : genome) {
    v.push_back({r.tokens.data(), static_cast<std::int64_t>(r.tokens.size()), r.circular, 0});
  }
  return v;
}

GenomeMemory memory_of(const Genome& genome, const std::vector<MemoryOrder>& orders) {
  return {views(genome), orders, serial_for};
}

// [order]
std::vector<Counts> counts(const GenomeMemory& memory, std::size_t orders, std::size_t sequence,
                           std::int64_t position) {
  std::vector<Counts> c(orders);
  memory.counts(sequence, position, c[0].data());
  return c;
}

struct Window {
  std::size_t record = 0;
  std::vector<std::int64_t> positions;  // the centre and its neighbours, in the record
  Sequence context;
  Token centre = kTokenN;
};

// The window of a base, read on one strand. False where there is none.
bool window_at(const Genome& genome, std::size_t record, std::int64_t centre, bool reverse,
               const MemoryOrder& order, Window& w) {
  const Record& r = genome[record];
  const auto length = static_cast<std::int64_t>(r.tokens.size());
  if (order.left + order.right + 1 > length) return false;
  w = {record, {}, {}, kTokenN};
  for (int o = -order.left; o <= order.right; ++o) {
    std::int64_t at = centre + (reverse ? -o : o);
    if (r.circular) at = (at + 2 * length) % length;
    if (at < 0 || at >= length) return false;
    Token t = r.tokens[static_cast<std::size_t>(at)];
    if (!is_base(t)) return false;
    if (reverse) t = complement(t);
    w.positions.push_back(at);
    if (o == 0) {
      w.centre = t;
    } else {
      w.context.push_back(t);
    }
  }
  return true;
}

// All windows of an order, by context.
using Windows = std::map<Sequence, std::vector<Window>>;
Windows all_windows(const Genome& genome, const MemoryOrder& order) {
  Windows windows;
  Window w;
  for (std::size_t r = 0; r < genome.size(); ++r) {
    for (std::size_t i = 0; i < genome[r].tokens.size(); ++i) {
      for (const bool reverse : {false, true}) {
        if (window_at(genome, r, static_cast<std::int64_t>(i), reverse, order, w)) {
          windows[w.context].push_back(w);
        }
      }
    }
  }
  return windows;
}

Counts plain_count(const Genome& genome, const Windows& windows, std::size_t record,
                   std::int64_t position, const MemoryOrder& order) {
  Counts c{};
  Window asked;
  if (!window_at(genome, record, position, false, order, asked)) return c;
  for (const Window& w : windows.at(asked.context)) {
    const bool contains = w.record == record && std::find(w.positions.begin(), w.positions.end(),
                                                          position) != w.positions.end();
    if (!contains) ++c[w.centre];
  }
  return c;
}

struct Case {
  std::string name;
  Genome genome;
};

std::vector<Case> cases() {
  const Sequence two = random_tokens(300, 11, 2);
  return {
      {"random", {{random_tokens(700, 1)}}},
      {"random circle", {{random_tokens(700, 1), true}}},
      {"two letters", {{two}}},
      {"two letters circle", {{two, true}}},
      {"gaps", {{with_gaps(repeat(random_tokens(150, 2), 4), 3, 0.02)}}},
      {"gaps circle", {{with_gaps(repeat(random_tokens(150, 2), 4), 3, 0.02), true}}},
      {"palindrome", {{palindrome(random_tokens(200, 4))}}},
      {"palindrome circle", {{palindrome(random_tokens(200, 4)), true}}},
      {"short palindromes", {{repeat(palindrome(random_tokens(5, 5)), 30)}}},
      {"tandem repeats", {{joined(repeat(random_tokens(3, 6), 60), repeat({0, 3}, 60))}}},
      {"poly-A", {{Sequence(200, kTokenA)}}},
      {"poly-A circle", {{Sequence(200, kTokenA), true}}},
      {"repeats of many lengths on circles",
       {{repeat(random_tokens(7, 7), 12), true}, {repeat({0, 3}, 33), true}}},
      {"circles about as long as the windows, and shorter",
       {{random_tokens(1, 20), true},
        {random_tokens(2, 21), true},
        {random_tokens(5, 22, 2), true},
        {random_tokens(12, 23, 2), true},
        {random_tokens(13, 24, 2), true},
        {Sequence(15, kTokenC), true},
        {repeat({0, 1, 2, 3}, 8), true},
        {random_tokens(33, 25, 2), true}}},
      {"records that share a stretch",
       {{joined(random_tokens(120, 8), random_tokens(150, 9))},
        {joined(test::reversed(random_tokens(120, 8)), random_tokens(40, 10)), true},
        {Sequence{kTokenN}},
        {random_tokens(120, 8), true}}},
  };
}

TEST(GenomeMemory, EqualsCountingWindowByWindow) {
  const std::vector<MemoryOrder> orders = all_orders();
  for (const Case& c : cases()) {
    SCOPED_TRACE(c.name);
    const GenomeMemory memory = memory_of(c.genome, orders);
    std::vector<Windows> windows;
    for (const MemoryOrder& order : orders) windows.push_back(all_windows(c.genome, order));
    for (std::size_t r = 0; r < c.genome.size(); ++r) {
      for (std::size_t i = 0; i < c.genome[r].tokens.size(); ++i) {
        const auto position = static_cast<std::int64_t>(i);
        const auto found = counts(memory, orders.size(), r, position);
        for (std::size_t o = 0; o < orders.size(); ++o) {
          ASSERT_EQ(found[o], plain_count(c.genome, windows[o], r, position, orders[o]))
              << "record " << r << ", position " << i << ", order " << orders[o].left << ", "
              << orders[o].right;
        }
      }
    }
  }
}

// Whatever stands at a position, its counts are the same: they do not know it.
TEST(GenomeMemory, CountsOfABaseAreAFunctionOfAllOthers) {
  const std::vector<MemoryOrder> orders = all_orders();
  for (Case c : cases()) {
    SCOPED_TRACE(c.name);
    std::uint64_t draw = 0;
    for (std::size_t r = 0; r < c.genome.size(); ++r) {
      Sequence& tokens = c.genome[r].tokens;
      for (int sample = 0; sample < 12; ++sample) {
        const std::size_t i = uniform_below(77, draw++, tokens.size());
        const Token truth = tokens[i];
        if (!is_base(truth)) continue;
        const auto position = static_cast<std::int64_t>(i);
        const auto before = counts(memory_of(c.genome, orders), orders.size(), r, position);
        for (Token other = 0; other < kBases; ++other) {
          tokens[i] = other;
          ASSERT_EQ(counts(memory_of(c.genome, orders), orders.size(), r, position), before)
              << "record " << r << ", position " << i << ": "
              << "ACGT"[truth] << " or "
              << "ACGT"[other];
        }
        tokens[i] = truth;
      }
    }
  }
}

// Enough for hash tables in several shards.
Genome large_genome() {
  const Sequence a = random_tokens(300000, 31);
  return {{a, true}, {joined(random_tokens(1000, 32), test::reversed(a))}, {random_tokens(9, 33)}};
}

const std::vector<MemoryOrder> kLargeOrders = {{1, 1},  {6, 6},  {0, 11}, {11, 0},
                                               {0, 14}, {14, 0}, {12, 12}};

TEST(GenomeMemory, NeitherThreadsNorTheOrderOfSequencesMatter) {
  const Genome genome = large_genome();
  const std::vector<MemoryOrder>& orders = kLargeOrders;
  const GenomeMemory one = memory_of(genome, orders);
  const Genome reversed = {genome[2], genome[1], genome[0]};
  const GenomeMemory turned = memory_of(reversed, orders);
  std::vector<GenomeMemory> others;
  for (const int threads : {2, 3, 4}) {
    ThreadPool pool(threads);
    others.emplace_back(views(genome), orders,
                        [&pool](std::int64_t tasks, const auto& work) { pool.run(tasks, work); });
    EXPECT_EQ(others.back().bytes(), one.bytes());
  }
  for (std::size_t r = 0; r < genome.size(); ++r) {
    for (std::size_t i = 0; i < genome[r].tokens.size(); i += 1 + i / 20) {
      const auto position = static_cast<std::int64_t>(i);
      const auto expected = counts(one, orders.size(), r, position);
      ASSERT_EQ(counts(turned, orders.size(), 2 - r, position), expected);
      for (const GenomeMemory& m : others) {
        ASSERT_EQ(counts(m, orders.size(), r, position), expected);
      }
    }
  }
}

TEST(GenomeMemory, LargeTablesKnowWhatIsElsewhere) {
  const Genome genome = large_genome();
  const GenomeMemory memory = memory_of(genome, kLargeOrders);
  // Both copies have the same windows around them, so that each tells the other's base: two-sided
  // of 24 neighbours exactly, shorter ones among others.
  const auto length = static_cast<std::int64_t>(genome[0].tokens.size());
  for (std::int64_t i = 100; i < length - 100; i += 997) {
    const Token truth = genome[0].tokens[static_cast<std::size_t>(i)];
    Counts only{};
    only[truth] = 1;
    const auto here = counts(memory, kLargeOrders.size(), 0, i);
    ASSERT_EQ(here.back(), only);
    for (const Counts& c : here) ASSERT_GE(c[truth], 1u);
    std::array<std::uint32_t, 4> other{};
    other[complement(truth)] = 1;
    ASSERT_EQ(counts(memory, kLargeOrders.size(), 1, 1000 + length - 1 - i).back(), other);
  }
  EXPECT_LE(memory.bytes(), GenomeMemory::memory_needed(601009, 3, kLargeOrders));
}

TEST(GenomeMemory, RotationRotatesAndTheOtherStrandMirrors) {
  const std::vector<MemoryOrder> orders = all_orders();
  const Sequence t =
      with_gaps(joined(random_tokens(500, 41, 3), palindrome(random_tokens(60, 42))), 43, 0.01);
  const auto length = static_cast<std::int64_t>(t.size());
  for (const bool circular : {false, true}) {
    const Genome genome = {{t, circular}}, mirrored = {{test::reversed(t), circular}};
    const GenomeMemory memory = memory_of(genome, orders), other = memory_of(mirrored, orders);
    const Genome turned = {
        {joined({t.begin() + 123, t.end()}, {t.begin(), t.begin() + 123}), true}};
    const GenomeMemory rotated = memory_of(turned, orders);
    for (std::int64_t i = 0; i < length; ++i) {
      const auto expected = counts(memory, orders.size(), 0, i);
      if (circular) {
        ASSERT_EQ(counts(rotated, orders.size(), 0, (i + length - 123) % length), expected);
      }
      const auto back = counts(other, orders.size(), 0, length - 1 - i);
      for (std::size_t o = 0; o < orders.size(); ++o) {
        const auto m = static_cast<std::size_t>(
            std::find(orders.begin(), orders.end(), MemoryOrder{orders[o].right, orders[o].left}) -
            orders.begin());
        ASSERT_LT(m, orders.size());
        Counts c = back[m];
        std::reverse(c.begin(), c.end());
        ASSERT_EQ(c, expected[o]);
      }
    }
  }
}

TEST(GenomeMemory, PolyA) {
  const Genome genome = {{Sequence(100000, kTokenA)}};
  const std::vector<MemoryOrder> orders = {{2, 2}, {24, 0}, {0, 24}};
  const GenomeMemory memory = memory_of(genome, orders);
  // 100,000 less the ends, less the windows that contain the base.
  EXPECT_EQ(
      counts(memory, 3, 0, 50000),
      (std::vector<Counts>{{99996 - 5, 0, 0, 0}, {99976 - 25, 0, 0, 0}, {99976 - 25, 0, 0, 0}}));
  EXPECT_EQ(counts(memory, 3, 0, 0),
            (std::vector<Counts>{{0, 0, 0, 0}, {0, 0, 0, 0}, {99976 - 1, 0, 0, 0}}));
}

TEST(GenomeMemory, ABlockRepeatedIsKnownByItsCopies) {
  const Sequence block = random_tokens(10000, 51);
  const Genome genome = {{repeat(block, 20), true}};
  const std::vector<MemoryOrder> orders = {{11, 11}, {24, 0}, {0, 24}};
  const GenomeMemory memory = memory_of(genome, orders);
  for (std::int64_t i = 0; i < 200000; i += 331) {
    Counts others{};
    others[block[static_cast<std::size_t>(i % 10000)]] = 19;
    ASSERT_EQ(counts(memory, 3, 0, i), (std::vector<Counts>{others, others, others}));
  }
}

// A table is made for about so many windows, and of contexts one part may get more than its share.
TEST(ContextCounts, TablesGrow) {
  const Genome genome = {{repeat(random_tokens(5000, 71), 2)}};
  const ContextShape shape{9, 3};
  ContextCounts small(shape, 10), large(shape, 10000);
  small.count(0, views(genome));
  large.count(0, views(genome));
  EXPECT_EQ(small.bytes(), large.bytes());
  std::size_t found = 0;
  for (const auto& [context, windows] : all_windows(genome, {9, 3})) {
    std::uint64_t word = 0;
    for (const Token t : context) word = word << 2 | t;
    Counts expected{};
    for (const Window& w : windows) ++expected[w.centre];
    for (const ContextCounts* table : {&small, &large}) {
      const std::uint32_t* c = table->find(word);
      if (windows.size() == 1) {
        ASSERT_EQ(c, nullptr);
      } else {
        ASSERT_NE(c, nullptr);
        ASSERT_TRUE(std::equal(expected.begin(), expected.end(), c));
        ++found;
      }
    }
  }
  EXPECT_GT(found, 9000u);
}

TEST(GenomeMemory, RefusesOrdersThatAreNone) {
  const Genome genome = {{random_tokens(50, 61)}};
  for (const MemoryOrder& o : {MemoryOrder{0, 0}, {-1, 3}, {32, 0}, {16, 16}}) {
    EXPECT_THROW(memory_of(genome, {o}), Error);
  }
  EXPECT_THROW(memory_of(genome, std::vector<MemoryOrder>(65, MemoryOrder{1, 1})), Error);
}

}  // namespace
}  // namespace m5
