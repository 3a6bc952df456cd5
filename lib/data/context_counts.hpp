// How often A, C, G and T stand in each context of one shape: so many neighbours before the base
// and so many after it, on both strands of some sequences. Exact integers.
//
// A window is a base and its neighbours, as a word of 2 bits a base, the first base highest. The
// reverse strand is read like the forward one, so that a shape answers for its mirror image too:
// neighbours {r, l} of a base are neighbours {l, r} of its complement.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "m5/tokens.hpp"

namespace m5 {

// left >= right, 1 <= left + right <= 31.
struct ContextShape {
  int left = 0, right = 0;

  int window() const { return left + right + 1; }  // nt
  bool symmetric() const { return left == right; }
  std::uint64_t window_mask() const { return ~std::uint64_t{0} >> (64 - 2 * window()); }
  std::uint64_t context(std::uint64_t word) const {
    return (word >> (2 * right + 2) << (2 * right)) |
           (word & ((std::uint64_t{1} << (2 * right)) - 1));
  }
  // The bits of a word that are its context.
  std::uint64_t context_mask() const { return window_mask() & ~(std::uint64_t{3} << (2 * right)); }
  std::uint32_t centre(std::uint64_t word) const {
    return static_cast<std::uint32_t>(word >> (2 * right)) & 3u;
  }
  bool operator==(const ContextShape&) const = default;
};

// Contexts of symmetric shapes are kept under the lesser of the two strands' readings, and counted
// once a window unless both readings are the same.
class ContextCounts {
 public:
  using Counts = std::array<std::uint32_t, kBases>;

  // windows: on one strand, about. Indexed by context where that takes no more than a hash
  // table might, else a hash table of the contexts that are seen at least twice: one that is seen
  // once knows only itself.
  ContextCounts(ContextShape shape, std::int64_t windows);

  // Counting is in so many parts, each of which can be done by a thread of its own.
  int parts() const { return static_cast<int>(hashed_.size()) + !dense_.empty(); }
  void count(int part, std::span<const TokenView> sequences);

  const ContextShape& shape() const { return shape_; }
  // Null where the context is not kept.
  const std::uint32_t* find(std::uint64_t context) const;
  void prefetch(std::uint64_t context) const;
  std::uint64_t bytes() const;

  // At most, of the table and of one part while it is counted.
  static std::uint64_t most_bytes(ContextShape shape, std::int64_t windows);
  static std::uint64_t most_work_bytes(ContextShape shape, std::int64_t windows);

 private:
  struct Row {
    std::uint64_t context = 0;
    Counts counts{};

    bool free() const { return (counts[0] | counts[1] | counts[2] | counts[3]) == 0; }
  };
  using Rows = std::vector<Row>;  // linear probing
  class Growing;

  ContextShape shape_;
  std::int64_t entries_;              // of counting, at most: windows of both strands
  int shard_bits_ = 0;                // 2^ so many hash tables, by context
  std::vector<std::uint32_t> dense_;  // [context][4]
  std::vector<Rows> hashed_;          // [shard]
};

}  // namespace m5
