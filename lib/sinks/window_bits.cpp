#include "sinks/window_bits.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace m5 {

void WindowBits::add(const SequenceScores& scores) {
  const auto steps = static_cast<std::int64_t>(scores.log_p.size()) / kStep;
  records_.push_back({sums_.size(), steps});
  Sum sum;
  sums_.push_back(sum);
  for (std::size_t i = 0; i < static_cast<std::size_t>(steps * kStep); ++i) {
    if (!std::isnan(scores.log_p[i])) {
      sum.bits += metric_from_nll(Metric::kBits, -static_cast<double>(scores.log_p[i]));
      ++sum.scored;
    }
    if ((i + 1) % kStep == 0) sums_.push_back(sum);
  }
  windows_.clear();
}

void WindowBits::clear() {
  sums_.clear();
  records_.clear();
  windows_.clear();
}

WindowBits::Windows WindowBits::windows_of(std::int64_t steps) const {
  std::int64_t all = 0;
  for (const Record& record : records_) all += std::max<std::int64_t>(0, record.steps - steps + 1);
  const std::int64_t stride = std::max<std::int64_t>(1, (all + kMost - 1) / kMost);
  Windows windows;
  double squares = 0;
  std::int64_t next = 0;  // place of the next window, counted from the first of this record
  for (const Record& record : records_) {
    const std::int64_t places = std::max<std::int64_t>(0, record.steps - steps + 1);
    for (; next < places; next += stride) {
      const Sum& before = sums_[record.first + static_cast<std::size_t>(next)];
      const Sum& after = sums_[record.first + static_cast<std::size_t>(next + steps)];
      const std::int64_t scored = after.scored - before.scored;
      if (2 * scored < steps * kStep) continue;
      const double bits = (after.bits - before.bits) / static_cast<double>(scored);
      windows.bits.push_back(bits);
      const double apart = bits - windows.mean;
      windows.mean += apart / static_cast<double>(windows.bits.size());
      squares += apart * (bits - windows.mean);
    }
    next -= places;
  }
  windows.deviation = std::sqrt(squares / static_cast<double>(windows.bits.size()));
  std::sort(windows.bits.begin(), windows.bits.end());
  return windows;
}

WindowBits::Place WindowBits::place(double bits, std::int64_t nt) {
  constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
  const std::int64_t steps = std::max<std::int64_t>(1, nt / kStep);
  const auto found = windows_.find(steps);
  const Windows& windows =
      found != windows_.end() ? found->second : windows_[steps] = windows_of(steps);
  if (std::isnan(bits) || windows.bits.size() < kFewest) return {kNone, kNone};
  constexpr double kEqual = 1e-9;  // differences of long sums are not exact
  const auto end = windows.bits.end();
  const auto first = std::lower_bound(windows.bits.begin(), end, bits - kEqual);
  const auto below = static_cast<double>(first - windows.bits.begin());
  const auto equal = static_cast<double>(std::upper_bound(first, end, bits + kEqual) - first);
  const bool alike = windows.deviation < kEqual;
  return {100 * (below + equal / 2) / static_cast<double>(windows.bits.size()),
          alike ? kNone : (bits - windows.mean) / windows.deviation};
}

std::uint64_t WindowBits::memory(std::int64_t nt) {
  return (static_cast<std::uint64_t>(nt / kStep) + 1) * sizeof(Sum) + sizeof(Record) * 2;
}

}  // namespace m5
