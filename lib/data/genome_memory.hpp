// What a genome's own statistics say of each of its bases: for some contexts around it, how often
// A, C, G and T stand in the same context elsewhere in the genome, on both strands. Every window
// (context and base) that contains the base itself is left out, so that the counts are a function
// of all other bases only.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "data/context_counts.hpp"
#include "m5/config.hpp"
#include "m5/tokens.hpp"

namespace m5 {

// Does work(worker, task) for all tasks in [0, tasks), at the same time or not (ThreadPool::run).
using ParallelFor = std::function<void(
    std::int64_t tasks, const std::function<void(int worker, std::int64_t task)>& work)>;

inline void serial_for(std::int64_t tasks,
                       const std::function<void(int worker, std::int64_t task)>& work) {
  for (std::int64_t task = 0; task < tasks; ++task) work(0, task);
}

class GenomeMemory {
 public:
  GenomeMemory() = default;
  // Counts over all sequences, one genome; their tokens must outlive it. The same whatever their
  // order and the number of threads. Throws Error(kInput) past 2^31 - 1 nt, Error(kUsage) for
  // orders of fewer than 1 or more than 31 neighbours, and for more than kMostMemoryOrders.
  GenomeMemory(std::span<const TokenView> sequences, std::span<const MemoryOrder> orders,
               const ParallelFor& parallel);

  // out[orders][4]: of the base at `position` (0-based) of sequences[sequence]. 0 where a neighbour
  // is no base (N, MASK, beyond an end), where the window is longer than a circular sequence, and
  // for a position that holds no base itself. From any number of threads.
  void counts(std::size_t sequence, std::int64_t position, std::uint32_t* out) const;

  std::uint64_t bytes() const;  // of the tables
  // At most, while counting with so many workers, or (0) after it. rows: nt in all.
  static std::uint64_t memory_needed(std::int64_t rows, std::int64_t sequences,
                                     std::span<const MemoryOrder> orders, int workers = 1);

 private:
  struct Order {
    std::size_t table = 0;
    bool mirrored = false;  // the table's shape is this one's mirror image
  };

  std::vector<TokenView> sequences_;
  std::vector<Order> orders_;
  std::vector<ContextCounts> tables_;
  int reach_ = 0;  // nt, of the longest window beside its base
};

}  // namespace m5
