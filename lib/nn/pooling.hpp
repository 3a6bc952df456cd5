// Pooled rows: the mean, the maximum or the standard deviation of the hidden rows of intervals,
// from blocks of rows that arrive in any order and from any thread, with a result that depends on
// neither.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <span>
#include <vector>

#include "m5/embedding.hpp"

namespace m5 {

// The same positions of the reverse complement of a sequence of `length` nt.
PoolInterval mirrored(const PoolInterval& interval, std::int64_t length);

// What was pooled of the intervals of one row of the result.
struct PoolSum {
  // [dim] sums or maxima; of kStd [2][dim], means and sums of squared deviations from them.
  // Empty: nothing yet.
  std::vector<double> values;
  std::int64_t bases = 0;  // A, C, G and T among the rows
};

// Only rows whose token is A, C, G or T are pooled. Sums are taken in double over fixed runs of
// kPoolRun rows (whole runs once for all intervals, and the parts of runs at the two ends of each
// interval) and added up in the order of the rows. Of a standard deviation a run gives its mean and
// the squares around it, which are joined without cancellation (Chan, Golub and LeVeque 1983).
class Pooler {
 public:
  // The sequences' tokens must stay; they are the ones given to Session::hidden.
  Pooler(std::span<const TokenView> sequences, const std::vector<PoolInterval>& intervals, int dim,
         Pool pool);

  // A block of Session::hidden. Safe from several threads.
  void add(std::int64_t first_row, int n, const float* values);
  // Once all rows are in: adds an interval to the sum, of other intervals or of other Poolers.
  void add_to(std::size_t interval, PoolSum& sum) const;
  // values[dim]; zeros where there is no base. kStd divides by the number of bases.
  static void finish(Pool pool, const PoolSum& sum, float* values);
  // Both for one interval alone. Returns its bases.
  std::int64_t result(std::size_t interval, float* values) const;

  static std::uint64_t memory(std::int64_t rows, std::int64_t intervals, int dim, Pool pool);

 private:
  struct Part {                        // of an interval, inside one sequence
    std::int64_t first_run, last_run;  // first_run: partial sum 2 * part, last_run: 2 * part + 1
    std::int64_t begin, end;           // positions
  };
  struct Sums {
    std::vector<double> values;  // [count][width_], each as PoolSum
    std::vector<std::int64_t> bases;
  };
  void accumulate(Sums& sums, std::size_t at, const Token* tokens, std::int64_t n,
                  const float* values) const;
  void combine(const Sums& sums, std::size_t at, PoolSum& sum) const;

  std::span<const TokenView> sequences_;
  int dim_, width_;
  Pool pool_;
  std::vector<std::int64_t> first_row_, first_run_;  // of each sequence
  std::vector<Part> parts_;
  std::vector<std::size_t> first_part_;  // of each interval; its parts follow each other
  Sums runs_, edges_;
  std::vector<char> run_needed_;          // as a whole
  std::vector<std::int64_t> edge_begin_;  // of each run in edge_
  std::vector<std::int64_t> edge_;        // 2 * part (+ 1 for the last run)
};

inline constexpr std::int64_t kPoolRun = 128;

// Puts blocks that arrive in any order into the order of their rows. Holds only what came early: a
// thread that is `ahead` rows before the others waits for them, until one gives up, since those
// that threw never come. Tiles of rows are begun in ascending order, so that somebody always gets
// on.
class RowOrder {
 public:
  using Sink = std::function<void(std::int64_t first_row, int n, const float* values)>;
  RowOrder(int dim, std::int64_t ahead, Sink sink)
      : dim_(dim), ahead_(ahead), sink_(std::move(sink)) {}
  // Safe from several threads; calls the sink on one at a time.
  void add(std::int64_t first_row, int n, const float* values);
  // Rows are missing for good: nobody waits any longer, and what comes is dropped.
  void give_up() noexcept;

 private:
  int dim_;
  bool given_up_ = false;
  std::int64_t ahead_;
  Sink sink_;
  std::mutex mutex_;
  std::condition_variable written_;
  std::int64_t next_ = 0;
  std::map<std::int64_t, std::vector<float>> early_;
};

}  // namespace m5
