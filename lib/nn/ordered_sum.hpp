// A reduction over tiles whose result does not depend on which worker finished first.
#pragma once

#include <algorithm>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace m5 {

// Every tile fills a zeroed part; parts reach `apply` one at a time, in tile order. Tiles are begun
// in ascending order, as Backend::for_tiles hands them out. At most 2 x workers parts exist: a
// worker that is so far ahead of the slowest tile waits for it. The next tile in order never
// waits, so that somebody always gets on.
template <class U>
class OrderedSum {
 public:
  using Apply = std::function<void(std::int64_t tile, const U* part)>;
  // A part that goes without end_part (its tile threw) gives the sum up: it would never be whole,
  // and nobody shall wait for it.
  struct GiveUp {
    OrderedSum* sum = nullptr;
    void operator()(U* part) const {
      delete[] part;
      sum->give_up();
    }
  };
  using Part = std::unique_ptr<U[], GiveUp>;

  OrderedSum(std::int64_t part_size, int workers, Apply apply)
      : part_size_(static_cast<std::size_t>(part_size)),
        apply_(std::move(apply)),
        waiting_(2 * static_cast<std::size_t>(workers)) {
    // Here, so that no worker fails for want of memory between two sums. Untouched until used.
    free_.reserve(waiting_.size());
    while (free_.size() < waiting_.size()) free_.emplace_back(new U[part_size_]);
  }

  Part begin_part(std::int64_t tile) {
    std::unique_ptr<U[]> part;
    {
      std::unique_lock lock(mutex_);
      applied_.wait(lock, [&] { return given_up_ || tile < next_ + most_ahead(); });
      if (!free_.empty()) {
        part = std::move(free_.back());
        free_.pop_back();
      }
    }
    if (!part) part.reset(new U[part_size_]);  // given up
    std::fill_n(part.get(), part_size_, U{});
    return Part(part.release(), GiveUp{this});
  }

  void end_part(std::int64_t tile, Part part) {
    std::lock_guard lock(mutex_);
    std::unique_ptr<U[]> plain(part.release());
    if (given_up_) return;
    place(tile) = std::move(plain);
    try {
      while (place(next_)) {
        apply_(next_, place(next_).get());
        free_.push_back(std::move(place(next_)));
        ++next_;
      }
    } catch (...) {
      given_up_ = true;
      applied_.notify_all();
      throw;
    }
    applied_.notify_all();
  }

 private:
  std::int64_t most_ahead() const { return static_cast<std::int64_t>(waiting_.size()); }
  std::unique_ptr<U[]>& place(std::int64_t tile) {
    return waiting_[static_cast<std::size_t>(tile) % waiting_.size()];
  }
  void give_up() {
    {
      std::lock_guard lock(mutex_);
      given_up_ = true;
    }
    applied_.notify_all();
  }

  const std::size_t part_size_;
  const Apply apply_;
  std::mutex mutex_;
  std::condition_variable applied_;
  bool given_up_ = false;
  std::int64_t next_ = 0;
  std::vector<std::unique_ptr<U[]>> waiting_;  // by tile, modulo its size
  std::vector<std::unique_ptr<U[]>> free_;
};

}  // namespace m5
