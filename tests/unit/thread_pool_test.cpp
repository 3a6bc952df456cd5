#include "base/thread_pool.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <barrier>
#include <csignal>
#include <stdexcept>

namespace m5 {
namespace {

TEST(ThreadPool, EveryTileOnce) {
  for (int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    for (std::int64_t tiles : {0, 1, 7, 1000}) {
      std::vector<std::atomic<int>> seen(static_cast<std::size_t>(tiles));
      pool.run(tiles, [&](int worker, std::int64_t tile) {
        ASSERT_LT(worker, threads);
        ++seen[static_cast<std::size_t>(tile)];
      });
      for (const auto& s : seen) EXPECT_EQ(s, 1);
    }
  }
}

TEST(ThreadPool, ExceptionReachesCaller) {
  ThreadPool pool(3);
  EXPECT_THROW(pool.run(100,
                        [](int, std::int64_t tile) {
                          if (tile == 40) throw std::runtime_error("tile 40");
                        }),
               std::runtime_error);
  int n = 0;
  pool.run(1, [&](int, std::int64_t) { ++n; });  // usable afterwards
  EXPECT_EQ(n, 1);
}

TEST(ThreadPool, SignalsAreForTheMainThread) {
  constexpr int kThreads = 3;
  sigset_t before;
  pthread_sigmask(SIG_SETMASK, nullptr, &before);
  ThreadPool pool(kThreads);
  std::barrier<> together(kThreads);  // a tile each
  pool.run(kThreads, [&](int worker, std::int64_t) {
    together.arrive_and_wait();
    sigset_t mask;
    pthread_sigmask(SIG_SETMASK, nullptr, &mask);
    for (const int number : {SIGINT, SIGTERM, SIGHUP, SIGALRM, SIGUSR1}) {
      EXPECT_EQ(sigismember(&mask, number), worker == 0 ? sigismember(&before, number) : 1);
    }
    for (const int number : {SIGPIPE, SIGSEGV, SIGBUS, SIGFPE, SIGABRT}) {
      EXPECT_EQ(sigismember(&mask, number), 0);
    }
  });
}

}  // namespace
}  // namespace m5
