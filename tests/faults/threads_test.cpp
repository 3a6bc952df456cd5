// Threads that the system refuses, and allocations that fail in what the threads share: an error,
// no hanging, and no thread left (one that is not joined would end the process).
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/pipeline.hpp"
#include "base/thread_pool.hpp"
#include "m5/error.hpp"
#include "tests/faults/injection.hpp"
#include "tests/unit/temp_dir.hpp"

namespace m5 {
namespace {

using faults::Call;
using faults::Effect;
using faults::Injection;
using faults::Watchdog;

constexpr int kItems = 8;

// Items through a pipeline whose reader waits, at its second item, until the run is given up or
// the first is written. The items that were written.
struct PipelineRun {
  std::vector<std::string> written;
  std::atomic<bool> wrote{false};

  void operator()() {
    Pipeline<std::string, std::string> pipeline;
    const std::stop_token stop = pipeline.stop_token();
    int next = 0;
    pipeline.run(
        [&](std::string& item) {
          while (next == 1 && !wrote) {
            if (stop.stop_requested()) throw Error(ErrorKind::kInternal, "stopped");
            std::this_thread::yield();
          }
          item = std::string(100, static_cast<char>('a' + next));
          return next++ < kItems;
        },
        [&](std::string item) { return item + item; },
        [&](const std::string& item) {
          written.push_back(item);
          wrote = true;
        });
  }
  bool wrote_the_first_items_alone() const {
    for (std::size_t i = 0; i < written.size(); ++i) {
      if (written[i] != std::string(200, static_cast<char>('a' + i))) return false;
    }
    return true;
  }
};

TEST(Faults, AnyThreadOfAPoolMayBeRefused) {
  const Watchdog watchdog;
  for (int threads = 2; threads <= 6; ++threads) {
    for (int n = 1; n < threads; ++n) {
      for (const Effect effect : {Effect::kFails, Effect::kFailsFromThen}) {
        Injection injection(Call::kThread, n, effect);
        const std::string message =
            test::error_of(ErrorKind::kResource, [&] { const ThreadPool pool(threads); });
        EXPECT_EQ(injection.calls(), n);
        const std::string numbers =
            "only " + std::to_string(n) + " of " + std::to_string(threads) + " threads";
        EXPECT_TRUE(test::contains(message, numbers)) << message;
        EXPECT_TRUE(test::contains(message, "--threads")) << message;
      }
    }
  }
}

TEST(Faults, AnyThreadOfAPipelineMayBeRefused) {
  const Watchdog watchdog;
  for (int n = 1; n <= 2; ++n) {
    for (const Effect effect : {Effect::kFails, Effect::kFailsFromThen}) {
      PipelineRun run;
      Injection injection(Call::kThread, n, effect);
      const std::string message = test::error_of(ErrorKind::kResource, [&] { run(); });
      EXPECT_EQ(injection.calls(), n);
      EXPECT_TRUE(test::contains(message, "--threads")) << message;
      EXPECT_TRUE(run.written.empty());
    }
  }
}

TEST(Faults, AnyAllocationOfAPoolMayFail) {
  const Watchdog watchdog;
  for (const Effect effect : {Effect::kFails, Effect::kFailsFromThen}) {
    bool failed = true;
    std::int64_t n = 0;
    while (failed) {
      std::atomic<int> tiles{0};
      Injection injection(Call::kNew, ++n, effect);
      try {
        ThreadPool pool(4);
        // Its worker's own allocation fails, too, and reaches the caller.
        pool.run(20, [&](int, std::int64_t) {
          const std::string taken(100, 'x');
          tiles += static_cast<int>(taken.size() / 100);
        });
        failed = false;
      } catch (const std::bad_alloc&) {
      }
      injection.end();
      EXPECT_TRUE(failed || tiles == 20);
    }
    EXPECT_GT(n, 20);
  }
}

TEST(Faults, AnyAllocationOfAPipelineMayFail) {
  const Watchdog watchdog;
  for (const Effect effect : {Effect::kFails, Effect::kFailsFromThen}) {
    bool failed = true;
    std::int64_t n = 0;
    while (failed) {
      PipelineRun run;
      Injection injection(Call::kNew, ++n, effect);
      try {
        run();
        failed = false;
      } catch (const std::bad_alloc&) {  // never the reader's "stopped": that comes of this one
      }
      injection.end();
      EXPECT_TRUE(run.wrote_the_first_items_alone()) << n;
      EXPECT_TRUE(failed || run.written.size() == kItems) << n;
    }
    EXPECT_GT(n, 3 * kItems);
  }
}

}  // namespace
}  // namespace m5
