// A reduction over tiles whose result does not depend on which worker finished first.
#pragma once

#include <algorithm>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace m5::kernels {

class TileSum {
 public:
  virtual ~TileSum() = default;
  // The total will never be whole: nobody waits any longer.
  virtual void give_up() noexcept = 0;
};

// work(), what there is to do for one tile. When it throws, wherever that is, its sums give up
// (null: no sum).
template <class Work>
void or_give_up(std::initializer_list<TileSum*> sums, Work work) {
  try {
    work();
  } catch (...) {
    for (TileSum* sum : sums) {
      if (sum) sum->give_up();
    }
    throw;
  }
}

// Every tile fills a zeroed part; parts reach `apply` one at a time, in tile order. Tiles are begun
// in ascending order, as Backend::for_tiles hands them out. There are 2 x workers parts, of which a
// worker holds one at a time: a worker that is so far ahead of the slowest tile waits for it. The
// next tile in order never waits, so that somebody always gets on.
//
// A tile that throws never ends its part, and whoever waits for it would wait for ever: the work on
// a tile runs in or_give_up().
template <class U>
class OrderedSum : public TileSum {
 public:
  using Apply = std::function<void(std::int64_t tile, const U* part)>;
  using Part = std::unique_ptr<U[]>;

  OrderedSum(std::int64_t part_size, int workers, Apply apply)
      : part_size_(static_cast<std::size_t>(part_size)),
        apply_(std::move(apply)),
        waiting_(2 * static_cast<std::size_t>(workers)) {
    // Here, so that no worker fails for want of memory between two sums. Untouched until used.
    free_.reserve(waiting_.size());
    while (free_.size() < waiting_.size()) free_.emplace_back(new U[part_size_]);
  }

  Part begin_part(std::int64_t tile) {
    Part part;
    {
      std::unique_lock lock(mutex_);
      applied_.wait(lock, [&] { return given_up_ || tile < next_ + most_ahead(); });
      // Never empty, given up or not: a worker loses one part at most, that of its tile which threw
      // or of the total that could not be taken; there are two for each.
      part = std::move(free_.back());
      free_.pop_back();
    }
    std::fill_n(part.get(), part_size_, U{});
    return part;
  }

  void end_part(std::int64_t tile, Part part) {
    std::lock_guard lock(mutex_);
    if (given_up_) {
      free_.push_back(std::move(part));
      return;
    }
    place(tile) = std::move(part);
    // Out of its place first: should apply_ throw, nobody takes the part a second time.
    while (Part done = std::move(place(next_))) {
      apply_(next_, done.get());
      free_.push_back(std::move(done));
      ++next_;
    }
    applied_.notify_all();
  }

  void give_up() noexcept override {
    std::lock_guard lock(mutex_);
    given_up_ = true;
    for (Part& part : waiting_) {
      if (part) free_.push_back(std::move(part));
    }
    applied_.notify_all();
  }

 private:
  std::int64_t most_ahead() const { return static_cast<std::int64_t>(waiting_.size()); }
  Part& place(std::int64_t tile) {
    return waiting_[static_cast<std::size_t>(tile) % waiting_.size()];
  }

  const std::size_t part_size_;
  const Apply apply_;
  std::mutex mutex_;
  std::condition_variable applied_;
  bool given_up_ = false;
  std::int64_t next_ = 0;
  std::vector<Part> waiting_;  // by tile, modulo its size
  std::vector<Part> free_;     // has room for all
};

}  // namespace m5::kernels
