// A reduction over tiles whose result does not depend on which worker finished first.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace m5 {

// Every tile fills a zeroed part; parts reach `apply` one at a time, in tile order.
template <class U>
class OrderedSum {
 public:
  using Apply = std::function<void(std::int64_t tile, const U* part)>;

  OrderedSum(std::int64_t part_size, Apply apply)
      : part_size_(static_cast<std::size_t>(part_size)), apply_(std::move(apply)) {}

  std::unique_ptr<U[]> begin_part() {
    std::unique_ptr<U[]> part;
    {
      std::lock_guard lock(mutex_);
      if (!free_.empty()) {
        part = std::move(free_.back());
        free_.pop_back();
      }
    }
    if (!part) part.reset(new U[part_size_]);
    std::fill_n(part.get(), part_size_, U{});
    return part;
  }

  void end_part(std::int64_t tile, std::unique_ptr<U[]> part) {
    std::lock_guard lock(mutex_);
    waiting_.emplace(tile, std::move(part));
    while (!waiting_.empty() && waiting_.begin()->first == next_) {
      apply_(next_, waiting_.begin()->second.get());
      free_.push_back(std::move(waiting_.begin()->second));
      waiting_.erase(waiting_.begin());
      ++next_;
    }
  }

 private:
  const std::size_t part_size_;
  const Apply apply_;
  std::mutex mutex_;
  std::int64_t next_ = 0;
  std::map<std::int64_t, std::unique_ptr<U[]>> waiting_;
  std::vector<std::unique_ptr<U[]>> free_;
};

}  // namespace m5
