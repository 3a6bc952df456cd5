// Three stages side by side: one thread reads, the calling thread computes, one thread writes.
//
// Items keep their order. At any time at most one item is read ahead (or being read), one is
// computed and one written, so memory is bounded by three items. The first error in the order of
// the items wins, whichever stage it came from: items before it are written, none after it.
#pragma once

#include <atomic>
#include <condition_variable>
#include <exception>
#include <functional>
#include <mutex>
#include <optional>
#include <stop_token>
#include <thread>
#include <utility>

namespace m5 {

// Hands items from one thread to another, one at a time.
template <class Item>
class HandOver {
 public:
  // Producer: waits until the item before is out of the way. False: cancelled.
  bool wait_free() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return !item_ || cancelled_; });
    return !cancelled_;
  }
  void put(Item item) {
    const std::lock_guard lock(mutex_);
    item_.emplace(std::move(item));
    changed_.notify_all();
  }
  void end() {
    const std::lock_guard lock(mutex_);
    ended_ = true;
    changed_.notify_all();
  }
  // Consumer: waits for an item, which stays in the way until release(). Null: there is none left,
  // or cancelled.
  Item* wait_item() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return item_ || ended_ || cancelled_; });
    return item_ && !cancelled_ ? &*item_ : nullptr;
  }
  void release() {
    const std::lock_guard lock(mutex_);
    item_.reset();
    changed_.notify_all();
  }
  // Either side, or a third one: nobody waits any longer.
  void cancel() {
    const std::lock_guard lock(mutex_);
    cancelled_ = true;
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::optional<Item> item_;
  bool ended_ = false, cancelled_ = false;
};

// A thread on which no handler of an asynchronous signal runs: those are the main thread's. SIGPIPE
// is no such signal: it ends the process from the thread that writes. Throws Error(kResource) if
// the system gives no more threads.
std::thread start_helper_thread(std::function<void()> work);

template <class In, class Out>
class Pipeline {
 public:
  Pipeline() = default;
  Pipeline(const Pipeline&) = delete;
  Pipeline& operator=(const Pipeline&) = delete;

  // For what read() waits on: when the run fails, it is to throw anything, soon.
  std::stop_token stop_token() const { return stop_.get_token(); }
  // For a compute() that takes long, now and then: throws when the run has failed already.
  void check() const {
    if (write_failed_) throw Stopped{};
  }

  // read(In&): false after the last item. compute(In&&) -> Out. write(Out&). Once; throws what a
  // stage threw. No thread is left afterwards.
  template <class Read, class Compute, class Write>
  void run(Read read, Compute compute, Write write) {
    std::exception_ptr read_error, compute_error, write_error;
    std::thread reader, writer;
    try {
      reader = start_helper_thread([&] {
        try {
          while (read_.wait_free()) {
            In item;
            if (!read(item)) break;
            read_.put(std::move(item));
          }
        } catch (...) {
          read_error = std::current_exception();
        }
        read_.end();
      });
      writer = start_helper_thread([&] {
        try {
          while (Out* item = written_.wait_item()) {
            write(*item);
            written_.release();
          }
        } catch (...) {
          write_error = std::current_exception();
          write_failed_ = true;
          written_.cancel();
          read_.cancel();
        }
      });
      while (In* next = read_.wait_item()) {
        In item = std::move(*next);
        read_.release();  // the one after it may be read
        check();
        Out out = compute(std::move(item));
        if (!written_.wait_free()) break;
        written_.put(std::move(out));
      }
    } catch (...) {
      compute_error = std::current_exception();
    }
    stop_.request_stop();
    read_.cancel();
    written_.end();
    if (writer.joinable()) writer.join();
    if (reader.joinable()) reader.join();
    // What is written comes before what is computed; what is computed, before what is read.
    for (const std::exception_ptr& error : {write_error, compute_error, read_error}) {
      if (error) std::rethrow_exception(error);
    }
  }

 private:
  struct Stopped {};  // never leaves run(): there is a write_error

  std::stop_source stop_;
  std::atomic<bool> write_failed_{false};
  HandOver<In> read_;
  HandOver<Out> written_;
};

}  // namespace m5
