// What a sequence's own counts add to a prediction: the yardstick of whoever claims to use context.
//
// For each of the asked bases in turn, with n_b the counts of the two-sided context of k neighbours
// a side (GenomeMemory: both strands of the segment, every window that contains the base left out):
//   p(b) <- (n_b + alpha_k p(b)) / (n + alpha_k),  k = 0 .. 6
// alpha_k is the best of 2, 8 ... 2048 for all asked bases together; an order that gains less than
// 1e-4 bits is not used. The seven choices see the answers; all else is a function of the other
// bases.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "data/genome_memory.hpp"
#include "m5/tokens.hpp"

namespace m5 {

struct AskedBase {
  std::size_t segment = 0;
  std::int64_t position = 0;  // in it, of an A, C, G or T
};

struct AdaptiveResult {
  static constexpr int kMaxSide = 6;
  double bits = 0;                                // sum over the asked bases
  std::int64_t correct = 0;                       // whose likeliest base is the true one
  std::array<double, kMaxSide + 1> alpha_by_k{};  // 0: not used
};

using BaseProbabilities = std::array<float, kBases>;

// Each segment is a genome of its own. asked: ascending; p: the prediction to start from, of each.
AdaptiveResult adaptive_baseline(std::span<const TokenView> segments,
                                 std::span<const AskedBase> asked, std::vector<BaseProbabilities> p,
                                 const ParallelFor& parallel);

// Bytes at most, beside the segments; longest: nt.
std::uint64_t adaptive_baseline_memory(std::int64_t longest, std::int64_t asked, int workers);

}  // namespace m5
