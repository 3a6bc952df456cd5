// The genome memories of a batch: one for each context, of its sequences as they are, nothing
// hidden. A row's counts leave out every window that holds its own base.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "data/genome_memory.hpp"
#include "m5/config.hpp"
#include "m5/tokens.hpp"

namespace m5 {

class Memories {
 public:
  // sequences as in a Session's call (contexts 0, 1, 2 ...); tokens must outlive this.
  Memories(std::span<const TokenView> sequences, const MemoryConfig& config,
           const ParallelFor& parallel);

  // For rows of the same sequences, or of their reverse complements. Refers to this object.
  RowCounts counts(bool reverse) const;
  // A stretch of a sequence, at most once around; on a circular one it may begin before position 0
  // or end past the length.
  struct Window {
    std::size_t sequence = 0;
    std::int64_t first = 0, length = 0;  // nt
  };
  // For rows of windows, one after the other, or of the reverse complement of each.
  RowCounts counts(bool reverse, std::vector<Window> windows) const;

  // Bytes of the memories of a batch, the making of them by so many workers included: contexts of
  // about equal length.
  static std::uint64_t memory_needed(const MemoryConfig& config, std::int64_t rows,
                                     std::int64_t sequences, std::int64_t contexts, int workers);

 private:
  struct Place {
    std::int64_t first_row, length;
    std::size_t memory, sequence;  // which memory, and which sequence of it
  };
  void count(std::span<const std::int64_t> rows, bool reverse, std::uint32_t* counts) const;
  void count(const Place& place, std::int64_t position, bool reverse, std::uint32_t* counts) const;

  std::vector<Place> places_;  // of each sequence
  std::vector<GenomeMemory> memories_;
  std::vector<std::size_t> mirrored_;  // of each order, the one that the other strand reads
};

// The counts of one base as the other strand reads them. mirrored: see mirrored_orders.
void mirror_counts(std::span<const std::size_t> mirrored, const std::uint32_t* counts,
                   std::uint32_t* out);
// The index of {r, l} for each order {l, r}.
std::vector<std::size_t> mirrored_orders(const MemoryConfig& config);

}  // namespace m5
