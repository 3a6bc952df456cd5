// Workers that live as long as the pool; tiles are handed out in ascending order to whoever is
// free.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace m5 {

class ThreadPool {
 public:
  // threads >= 1; the calling thread is worker 0, threads - 1 are started. On those no handler of
  // an asynchronous signal runs (start_helper_thread). Throws Error(kResource) if the system gives
  // no more threads.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const { return static_cast<int>(threads_.size()) + 1; }
  // Runs work(worker, tile) for all tiles in [0, tiles). The first exception stops the handing out
  // and is thrown here. Not reentrant.
  void run(std::int64_t tiles, const std::function<void(int worker, std::int64_t tile)>& work);

 private:
  void stop();  // ends and joins the threads
  void worker_loop(int worker);
  void drain(int worker);

  std::mutex mutex_;
  std::condition_variable start_, done_;
  const std::function<void(int, std::int64_t)>* work_ = nullptr;
  std::int64_t tiles_ = 0, next_ = 0;
  int busy_ = 0;
  std::uint64_t round_ = 0;
  bool stop_ = false;
  std::exception_ptr error_;
  std::vector<std::thread> threads_;
};

}  // namespace m5
