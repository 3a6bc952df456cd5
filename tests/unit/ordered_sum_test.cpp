// Sums over tiles: in order, with a bound on the parts, and without a deadlock when a tile throws.
#include "kernels/tiled/ordered_sum.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "base/thread_pool.hpp"

namespace m5::kernels {
namespace {

constexpr std::int64_t kPart = 5;

TEST(OrderedSum, PartsAreAppliedInOrderWhoeverFinishesFirst) {
  for (const int workers : {1, 2, 3, 8}) {
    for (const std::int64_t tiles : {0, 1, 2, 7, 200}) {
      ThreadPool pool(workers);
      std::vector<std::int64_t> order;
      double total = 0, expected = 0;
      OrderedSum<float> sum(kPart, workers, [&](std::int64_t tile, const float* part) {
        order.push_back(tile);
        for (std::int64_t i = 0; i < kPart; ++i) total += static_cast<double>(part[i]) / 3;
      });
      pool.run(tiles, [&](int, std::int64_t tile) {
        auto part = sum.begin_part(tile);
        EXPECT_EQ(std::count(part.get(), part.get() + kPart, 0.0f), kPart);  // used before, zeroed
        // Tiles of very different length finish in another order.
        if (tile % 5 == 0) std::this_thread::sleep_for(std::chrono::microseconds(50));
        for (std::int64_t i = 0; i < kPart; ++i) part[i] = static_cast<float>(tile + i) + 0.1f;
        sum.end_part(tile, std::move(part));
      });
      ASSERT_EQ(static_cast<std::int64_t>(order.size()), tiles);
      EXPECT_TRUE(std::is_sorted(order.begin(), order.end()));
      for (std::int64_t tile = 0; tile < tiles; ++tile) {
        for (std::int64_t i = 0; i < kPart; ++i) {
          expected += static_cast<double>(static_cast<float>(tile + i) + 0.1f) / 3;
        }
      }
      EXPECT_EQ(total, expected);
    }
  }
}

// Worker 0 sits on tile 0 until the others can get no further; then they must be waiting, no more
// than 2 x workers parts being out.
TEST(OrderedSum, ASlowTileHoldsTheOthersBack) {
  constexpr int kWorkers = 3;
  ThreadPool pool(kWorkers);
  std::atomic<std::int64_t> begun{0}, applied{0}, most{0};
  OrderedSum<double> sum(kPart, kWorkers, [&](std::int64_t, const double*) { ++applied; });
  pool.run(100, [&](int, std::int64_t tile) {
    auto part = sum.begin_part(tile);
    const std::int64_t out = ++begun - applied;
    for (std::int64_t seen = most; out > seen && !most.compare_exchange_weak(seen, out);) {
    }
    if (tile == 0) {
      // All tiles that may go ahead have gone; a moment in which the others could go too far.
      while (begun < 2 * kWorkers) std::this_thread::yield();
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    sum.end_part(tile, std::move(part));
  });
  EXPECT_EQ(applied, 100);
  EXPECT_EQ(most, 2 * kWorkers);
}

constexpr std::int64_t kTiles = 100;

// Two sums, as the sweeps of backward have them. Tile `bad` throws, when all who may go ahead of it
// wait for it: before it begins a part, between the two, with both, or between their ends.
TEST(OrderedSum, ATileThatThrowsEndsTheRun) {
  for (const int workers : {1, 2, 4}) {
    for (const std::int64_t bad : {0, 3, 17}) {
      for (int place = 0; place < 4; ++place) {
        ThreadPool pool(workers);
        std::atomic<int> begun{0};
        std::int64_t last_of_first = -1, last = -1;
        OrderedSum<float> first(kPart, workers,
                                [&](std::int64_t tile, const float*) { last_of_first = tile; });
        OrderedSum<double> second(kPart, workers,
                                  [&](std::int64_t tile, const double*) { last = tile; });
        const auto run = [&] {
          pool.run(kTiles, [&](int, std::int64_t tile) {
            or_give_up({&first, nullptr, &second}, [&] {
              const auto throw_at = [&](int here) {
                if (tile != bad || place != here) return;
                // The tile itself has begun when place > 1.
                const auto ahead = workers == 1 ? 0 : bad + 2 * workers - (place < 2);
                while (begun < ahead) std::this_thread::yield();
                throw std::runtime_error("tile " + std::to_string(tile));
              };
              throw_at(0);
              auto a = first.begin_part(tile);
              throw_at(1);
              auto b = second.begin_part(tile);
              ++begun;
              throw_at(2);
              first.end_part(tile, std::move(a));
              throw_at(3);
              second.end_part(tile, std::move(b));
            });
          });
        };
        EXPECT_THROW(run(), std::runtime_error);
        EXPECT_EQ(last, bad - 1);
        EXPECT_TRUE(place == 3 || last_of_first == bad - 1) << last_of_first;
      }
    }
  }
}

// Nor is any total taken twice, or after it.
TEST(OrderedSum, ATotalThatCannotBeTakenEndsTheRun) {
  for (const int workers : {1, 3}) {
    ThreadPool pool(workers);
    std::vector<std::int64_t> taken;
    OrderedSum<float> sum(kPart, workers, [&](std::int64_t tile, const float*) {
      taken.push_back(tile);
      if (tile == 4) throw std::runtime_error("tile 4");
    });
    const auto run = [&] {
      pool.run(kTiles, [&](int, std::int64_t tile) {
        or_give_up({&sum}, [&] { sum.end_part(tile, sum.begin_part(tile)); });
      });
    };
    EXPECT_THROW(run(), std::runtime_error);
    EXPECT_EQ(taken, (std::vector<std::int64_t>{0, 1, 2, 3, 4}));
  }
}

}  // namespace
}  // namespace m5::kernels
