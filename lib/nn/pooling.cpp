#include "nn/pooling.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "m5/error.hpp"

namespace m5 {

namespace {

// Of a sum of nothing.
double empty_value(Pool pool) {
  return pool == Pool::kMax ? -std::numeric_limits<double>::infinity() : 0.0;
}

// Doubles of one sum.
int sum_width(Pool pool, int dim) { return pool == Pool::kStd ? 2 * dim : dim; }

}  // namespace

PoolInterval mirrored(const PoolInterval& interval, std::int64_t length) {
  // On a circular sequence the mirror of what lies beyond the end lies before the beginning.
  const std::int64_t begin = (2 * length - interval.end) % length;
  return {interval.sequence, begin, begin + interval.end - interval.begin};
}

Pooler::Pooler(std::span<const TokenView> sequences, const std::vector<PoolInterval>& intervals,
               int dim, Pool pool)
    : sequences_(sequences), dim_(dim), width_(sum_width(pool, dim)), pool_(pool) {
  std::int64_t rows = 0, runs = 0;
  for (const TokenView& view : sequences) {
    first_row_.push_back(rows);
    first_run_.push_back(runs);
    rows += view.length;
    runs += (view.length + kPoolRun - 1) / kPoolRun;
  }
  for (const PoolInterval& interval : intervals) {
    first_part_.push_back(parts_.size());
    const auto s = static_cast<std::size_t>(interval.sequence);
    const std::int64_t length = sequences[s].length;
    const auto add_part = [&](std::int64_t begin, std::int64_t end) {
      parts_.push_back(
          {first_run_[s] + begin / kPoolRun, first_run_[s] + (end - 1) / kPoolRun, begin, end});
    };
    add_part(interval.begin, std::min(interval.end, length));
    if (interval.end > length) add_part(0, interval.end - length);
  }
  first_part_.push_back(parts_.size());

  const auto allocate = [&](Sums& sums, std::size_t count) {
    sums.values.assign(count * static_cast<std::size_t>(width_), empty_value(pool));
    sums.bases.assign(count, 0);
  };
  allocate(edges_, 2 * parts_.size());
  run_needed_.assign(static_cast<std::size_t>(runs), 0);
  edge_begin_.assign(static_cast<std::size_t>(runs) + 1, 0);
  // Runs strictly between two edges, as a difference array: intervals may be many and long.
  std::vector<std::int64_t> change(static_cast<std::size_t>(runs) + 1, 0);
  bool any_needed = false;
  for (const Part& part : parts_) {
    ++edge_begin_[static_cast<std::size_t>(part.first_run)];
    if (part.last_run != part.first_run) ++edge_begin_[static_cast<std::size_t>(part.last_run)];
    if (part.last_run - part.first_run < 2) continue;
    any_needed = true;
    ++change[static_cast<std::size_t>(part.first_run) + 1];
    --change[static_cast<std::size_t>(part.last_run)];
  }
  std::int64_t open = 0, edges = 0;
  for (std::size_t run = 0; run < static_cast<std::size_t>(runs); ++run) {
    run_needed_[run] = (open += change[run]) > 0;
    edges += std::exchange(edge_begin_[run], edges);
  }
  edge_begin_.back() = edges;
  edge_.resize(static_cast<std::size_t>(edges));
  std::vector<std::int64_t> fill(edge_begin_.begin(), edge_begin_.end() - 1);
  for (std::size_t p = 0; p < parts_.size(); ++p) {
    const auto put = [&](std::int64_t run, std::size_t edge) {
      edge_[static_cast<std::size_t>(fill[static_cast<std::size_t>(run)]++)] =
          static_cast<std::int64_t>(edge);
    };
    put(parts_[p].first_run, 2 * p);
    if (parts_[p].last_run != parts_[p].first_run) put(parts_[p].last_run, 2 * p + 1);
  }
  allocate(runs_, any_needed ? static_cast<std::size_t>(runs) : 0);
}

// Once for each sum.
void Pooler::accumulate(Sums& sums, std::size_t at, const Token* tokens, std::int64_t n,
                        const float* values) const {
  double* total = sums.values.data() + at * static_cast<std::size_t>(width_);
  const auto for_bases = [&](const auto& take) {
    for (std::int64_t i = 0; i < n; ++i) {
      if (!is_base(tokens[i])) continue;
      const float* row = values + i * dim_;
      for (int c = 0; c < dim_; ++c) take(c, static_cast<double>(row[c]));
    }
  };
  for (std::int64_t i = 0; i < n; ++i) sums.bases[at] += is_base(tokens[i]);
  if (pool_ == Pool::kMax) {
    for_bases([&](int c, double value) { total[c] = std::max(total[c], value); });
    return;
  }
  for_bases([&](int c, double value) { total[c] += value; });
  if (pool_ != Pool::kStd || sums.bases[at] == 0) return;
  const auto bases = static_cast<double>(sums.bases[at]);
  for (int c = 0; c < dim_; ++c) total[c] /= bases;
  double* squares = total + dim_;
  for_bases([&](int c, double value) { squares[c] += (value - total[c]) * (value - total[c]); });
}

void Pooler::add(std::int64_t first_row, int n, const float* values) {
  for (std::int64_t row = first_row; row < first_row + n;) {
    const auto s = static_cast<std::size_t>(
        std::upper_bound(first_row_.begin(), first_row_.end(), row) - first_row_.begin() - 1);
    const std::int64_t position = row - first_row_[s];
    const std::int64_t rows = std::min(kPoolRun, sequences_[s].length - position);
    if (position % kPoolRun != 0 || row + rows > first_row + n) {
      throw Error(ErrorKind::kInternal, "a block of rows does not hold whole runs");
    }
    const std::int64_t run = first_run_[s] + position / kPoolRun;
    const Token* tokens = sequences_[s].tokens + position;
    const float* x = values + (row - first_row) * dim_;
    if (run_needed_[static_cast<std::size_t>(run)]) {
      accumulate(runs_, static_cast<std::size_t>(run), tokens, rows, x);
    }
    for (std::int64_t e = edge_begin_[static_cast<std::size_t>(run)];
         e < edge_begin_[static_cast<std::size_t>(run) + 1]; ++e) {
      const auto edge = static_cast<std::size_t>(edge_[static_cast<std::size_t>(e)]);
      const Part& part = parts_[edge / 2];
      const std::int64_t begin = std::max(part.begin, position) - position;
      const std::int64_t end = std::min(part.end, position + rows) - position;
      accumulate(edges_, edge, tokens + begin, end - begin, x + begin * dim_);
    }
    row += rows;
  }
}

void Pooler::combine(const Sums& sums, std::size_t at, PoolSum& sum) const {
  if (sums.bases[at] == 0) return;
  const auto before = static_cast<double>(sum.bases), added = static_cast<double>(sums.bases[at]);
  sum.bases += sums.bases[at];
  const double* other = sums.values.data() + at * static_cast<std::size_t>(width_);
  if (pool_ != Pool::kStd) {
    for (double& total : sum.values) {
      total = pool_ == Pool::kMean ? total + *other : std::max(total, *other);
      ++other;
    }
    return;
  }
  double* mean = sum.values.data();
  double* squares = mean + dim_;
  const double share = added / (before + added);
  for (int c = 0; c < dim_; ++c) {
    const double apart = other[c] - mean[c];
    mean[c] += apart * share;
    squares[c] += other[dim_ + c] + apart * apart * before * share;
  }
}

void Pooler::add_to(std::size_t interval, PoolSum& sum) const {
  if (sum.values.empty()) {
    sum.values.assign(static_cast<std::size_t>(width_), empty_value(pool_));
  }
  for (std::size_t p = first_part_[interval]; p < first_part_[interval + 1]; ++p) {
    combine(edges_, 2 * p, sum);
    for (std::int64_t run = parts_[p].first_run + 1; run < parts_[p].last_run; ++run) {
      combine(runs_, static_cast<std::size_t>(run), sum);
    }
    if (parts_[p].last_run != parts_[p].first_run) combine(edges_, 2 * p + 1, sum);
  }
}

void Pooler::finish(Pool pool, const PoolSum& sum, float* values) {
  const std::size_t first = pool == Pool::kStd ? sum.values.size() / 2 : 0;
  const auto bases = static_cast<double>(std::max<std::int64_t>(1, sum.bases));
  for (std::size_t i = first; i < sum.values.size(); ++i) {
    const double value = sum.values[i];
    const double pooled = pool == Pool::kMean  ? value / bases
                          : pool == Pool::kStd ? std::sqrt(value / bases)
                                               : value;
    *values++ = sum.bases == 0 ? 0.0f : static_cast<float>(pooled);
  }
}

std::int64_t Pooler::result(std::size_t interval, float* values) const {
  PoolSum sum;
  add_to(interval, sum);
  finish(pool_, sum, values);
  return sum.bases;
}

std::uint64_t Pooler::memory(std::int64_t rows, std::int64_t intervals, int dim, Pool pool) {
  const auto runs = static_cast<std::uint64_t>(rows / kPoolRun + 1);
  const std::uint64_t sum = sizeof(double) * static_cast<std::uint64_t>(sum_width(pool, dim)) + 16;
  return (runs + 2 * static_cast<std::uint64_t>(intervals)) * (sum + 32);
}

void RowOrder::add(std::int64_t first_row, int n, const float* values) {
  std::unique_lock lock(mutex_);
  written_.wait(lock, [&] { return given_up_ || first_row < next_ + ahead_; });
  if (given_up_) return;
  if (first_row != next_) {
    early_.emplace(first_row,
                   std::vector<float>(values, values + static_cast<std::int64_t>(n) * dim_));
    return;
  }
  sink_(first_row, n, values);
  next_ += n;
  for (auto it = early_.begin(); it != early_.end() && it->first == next_;) {
    const int rows = static_cast<int>(it->second.size() / static_cast<std::size_t>(dim_));
    sink_(it->first, rows, it->second.data());
    next_ += rows;
    it = early_.erase(it);
  }
  written_.notify_all();
}

void RowOrder::give_up() noexcept {
  std::lock_guard lock(mutex_);
  given_up_ = true;
  written_.notify_all();
}

}  // namespace m5
