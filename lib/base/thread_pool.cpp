#include "base/thread_pool.hpp"

#include <string>
#include <system_error>
#include <utility>

#include "base/hold_signals.hpp"
#include "m5/error.hpp"

namespace m5 {

ThreadPool::ThreadPool(int threads) {
  // As in start_helper_thread: handlers are the main thread's, so that none runs beside what the
  // main thread defers them for.
  const HoldSignals hold({SIGPIPE});
  try {
    for (int worker = 1; worker < threads; ++worker) {
      threads_.emplace_back([this, worker] { worker_loop(worker); });
    }
  } catch (const std::system_error& error) {
    // The destructor does not run; threads that were started must end before their std::thread.
    const std::size_t started = threads_.size() + 1;
    stop();
    throw Error(ErrorKind::kResource, "only " + std::to_string(started) + " of " +
                                          std::to_string(threads) + " threads could be started (" +
                                          error.code().message() + "); use fewer: --threads");
  } catch (...) {
    stop();
    throw;
  }
}

ThreadPool::~ThreadPool() { stop(); }

void ThreadPool::stop() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  start_.notify_all();
  for (std::thread& t : threads_) t.join();
}

void ThreadPool::run(std::int64_t tiles, const std::function<void(int, std::int64_t)>& work) {
  {
    std::lock_guard lock(mutex_);
    work_ = &work;
    tiles_ = tiles;
    next_ = 0;
    error_ = nullptr;
    ++round_;
    busy_ = static_cast<int>(threads_.size());
  }
  start_.notify_all();
  drain(0);
  std::unique_lock lock(mutex_);
  done_.wait(lock, [this] { return busy_ == 0; });
  work_ = nullptr;
  // Not kept: what was thrown may live longer than what it speaks of.
  if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
}

void ThreadPool::worker_loop(int worker) {
  std::uint64_t seen = 0;
  while (true) {
    {
      std::unique_lock lock(mutex_);
      start_.wait(lock, [&] { return stop_ || round_ != seen; });
      if (stop_) return;
      seen = round_;
    }
    drain(worker);
    std::lock_guard lock(mutex_);
    if (--busy_ == 0) done_.notify_one();
  }
}

void ThreadPool::drain(int worker) {
  while (true) {
    std::int64_t tile;
    {
      std::lock_guard lock(mutex_);
      if (next_ >= tiles_) return;
      tile = next_++;
    }
    try {
      (*work_)(worker, tile);
    } catch (...) {
      std::lock_guard lock(mutex_);
      if (!error_) error_ = std::current_exception();
      next_ = tiles_;
    }
  }
}

}  // namespace m5
