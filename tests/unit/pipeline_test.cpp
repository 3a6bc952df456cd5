#include "base/pipeline.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <csignal>
#include <memory>
#include <string>
#include <vector>

namespace m5 {
namespace {

struct Failure {
  std::string stage;
};

// Items 0 .. items-1; a stage throws at its item, -1: never.
struct Scenario {
  int items = 20, read_fails = -1, compute_fails = -1, write_fails = -1;
  std::vector<int> written;

  std::string run() {  // the stage that failed, "" if none
    Pipeline<int, std::string> pipeline;
    int next = 0;
    const auto read = [&](int& item) {
      if (next == read_fails) throw Failure{"read"};
      item = next++;
      return item < items;
    };
    const auto compute = [&](int item) {
      if (item == compute_fails) throw Failure{"compute"};
      return std::to_string(item);
    };
    const auto write = [&](const std::string& item) {
      if (item == std::to_string(write_fails)) throw Failure{"write"};
      written.push_back(std::stoi(item));
    };
    try {
      pipeline.run(read, compute, write);
    } catch (const Failure& failure) {
      return failure.stage;
    }
    return "";
  }
  // Whether exactly the items before `end` were written, in their order.
  bool wrote_up_to(int end) const {
    if (static_cast<int>(written.size()) != end) return false;
    for (int i = 0; i < end; ++i) {
      if (written[static_cast<std::size_t>(i)] != i) return false;
    }
    return true;
  }
};

TEST(Pipeline, KeepsTheOrder) {
  for (int items : {0, 1, 2, 500}) {
    Scenario run;
    run.items = items;
    EXPECT_EQ(run.run(), "");
    EXPECT_TRUE(run.wrote_up_to(items));
  }
}

TEST(Pipeline, FirstErrorInTheOrderOfItemsWins) {
  for (int first = 0; first < 6; ++first) {
    for (int later = first; later < 8; ++later) {
      Scenario run;
      run.write_fails = first;
      run.compute_fails = later + 1;
      run.read_fails = later + 1;
      EXPECT_EQ(run.run(), "write") << first << " " << later;
      EXPECT_TRUE(run.wrote_up_to(first)) << first << " " << later;

      run = Scenario();
      run.compute_fails = first;
      run.write_fails = first;
      run.read_fails = later + 1;
      EXPECT_EQ(run.run(), "compute") << first << " " << later;
      EXPECT_TRUE(run.wrote_up_to(first)) << first << " " << later;

      run = Scenario();
      run.read_fails = first;
      run.compute_fails = later;
      EXPECT_EQ(run.run(), "read") << first << " " << later;
      EXPECT_TRUE(run.wrote_up_to(first)) << first << " " << later;
    }
  }
}

// Waits for a flag that another stage sets; false after so long that it never will.
bool wait_for(const std::atomic<bool>& flag) {
  for (int i = 0; i < 20000 && !flag; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return flag;
}

TEST(Pipeline, StagesWorkSideBySide) {
  // Item 1 is computed only once item 0 is being written and item 2 read, and these end after it.
  std::atomic<bool> reading_2{false}, writing_0{false}, computed_1{false};
  bool met = true;
  Pipeline<int, int> pipeline;
  int next = 0;
  pipeline.run(
      [&](int& item) {
        item = next++;
        if (item == 2) {
          reading_2 = true;
          met = wait_for(computed_1) && met;
        }
        return item < 3;
      },
      [&](int item) {
        if (item == 1) {
          if (!wait_for(reading_2) || !wait_for(writing_0)) ADD_FAILURE();
          computed_1 = true;
        }
        return item;
      },
      [&](int item) {
        if (item == 0) {
          writing_0 = true;
          if (!wait_for(computed_1)) ADD_FAILURE();
        }
      });
  EXPECT_TRUE(met);
}

// Counts what is alive.
class Counted {
 public:
  Counted(std::atomic<int>& alive, std::atomic<int>& most) : alive_(&alive, &leave) {
    const int now = ++alive;
    for (int seen = most; seen < now && !most.compare_exchange_weak(seen, now);) {
    }
  }
  Counted() = default;

 private:
  static void leave(std::atomic<int>* alive) { --*alive; }
  std::unique_ptr<std::atomic<int>, void (*)(std::atomic<int>*)> alive_{nullptr, &leave};
};

TEST(Pipeline, HoldsAnItemAStage) {
  for (const int slow : {0, 1, 2}) {  // the stage the others wait for
    std::atomic<int> alive{0}, most{0};
    const auto work = [&](int stage) {
      if (stage == slow) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    };
    Pipeline<Counted, Counted> pipeline;
    int next = 0;
    pipeline.run(
        [&](Counted& item) {
          if (next++ == 40) return false;
          item = Counted(alive, most);
          work(0);
          return true;
        },
        [&](Counted item) {
          work(1);
          return item;
        },
        [&](const Counted&) { work(2); });
    EXPECT_LE(most, 3);
    EXPECT_EQ(alive, 0);
  }
}

TEST(Pipeline, AFailureStopsAReaderThatWaits) {
  // No item ever comes, but the stop does: from the stage that computes, and from the one that
  // writes while the caller waits for the next item.
  for (const bool writing : {false, true}) {
    Pipeline<int, int> pipeline;
    const std::stop_token stop = pipeline.stop_token();
    int next = 0;
    const auto read = [&](int& item) {
      item = next++;
      if (item == 0) return true;
      for (int i = 0; i < 20000 && !stop.stop_requested(); ++i) {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
      }
      EXPECT_TRUE(stop.stop_requested());
      throw Failure{"read"};
    };
    const auto compute = [&](int item) {
      if (!writing) throw Failure{"compute"};
      return item;
    };
    const auto write = [](int) { throw Failure{"write"}; };
    try {
      pipeline.run(read, compute, write);
      ADD_FAILURE();
    } catch (const Failure& failure) {
      EXPECT_EQ(failure.stage, writing ? "write" : "compute");
    }
  }
}

TEST(Pipeline, ALongComputationHearsOfAFailure) {
  Pipeline<int, int> pipeline;
  int next = 0;
  const auto compute = [&](int item) {
    if (item == 0) return item;
    for (int i = 0; i < 20000; ++i) {
      pipeline.check();
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    ADD_FAILURE();
    return item;
  };
  const auto read = [&](int& item) {
    item = next++;
    return true;
  };
  EXPECT_THROW(pipeline.run(read, compute, [](int) { throw Failure{"write"}; }), Failure);
}

TEST(Pipeline, SignalsAreForTheMainThread) {
  sigset_t before;
  pthread_sigmask(SIG_SETMASK, nullptr, &before);
  const auto held = [](int number) {
    sigset_t mask;
    pthread_sigmask(SIG_SETMASK, nullptr, &mask);
    return sigismember(&mask, number) == 1;
  };
  const auto check_helper = [&] {
    for (int number : {SIGINT, SIGTERM, SIGHUP, SIGALRM, SIGUSR1}) EXPECT_TRUE(held(number));
    // Of the thread's own doing: a closed pipe ends the process, a fault is told.
    for (int number : {SIGPIPE, SIGSEGV, SIGBUS, SIGFPE, SIGABRT}) EXPECT_FALSE(held(number));
  };
  Pipeline<int, int> pipeline;
  int next = 0;
  pipeline.run(
      [&](int& item) {
        check_helper();
        return (item = next++) < 2;
      },
      [&](int item) {
        for (int number : {SIGINT, SIGTERM, SIGPIPE}) {
          EXPECT_EQ(held(number), sigismember(&before, number) == 1);
        }
        return item;
      },
      [&](int) { check_helper(); });
}

}  // namespace
}  // namespace m5
