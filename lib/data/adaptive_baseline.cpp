#include "data/adaptive_baseline.hpp"

#include <algorithm>
#include <cmath>

#include "m5/error.hpp"

namespace m5 {
namespace {

constexpr std::int64_t kLongSegment = 262144;  // nt

using Counts = std::array<std::uint32_t, kBases>;

// Bases of both strands, of a segment.
Counts composition(const TokenView& segment) {
  Counts counts{};
  for (std::int64_t i = 0; i < segment.length; ++i) {
    const Token base = segment.tokens[i];
    if (!is_base(base)) continue;
    ++counts[base];
    ++counts[complement(base)];
  }
  return counts;
}

// The counts of `asked` bases of one segment in contexts of k neighbours a side.
void count_segment(const TokenView& segment, int k, std::span<const AskedBase> asked,
                   const ParallelFor& parallel, Counts* counts) {
  if (k == 0) {
    const Counts all = composition(segment);
    for (std::size_t i = 0; i < asked.size(); ++i) {
      const Token base = segment.tokens[asked[i].position];
      counts[i] = all;
      --counts[i][base];
      --counts[i][complement(base)];
    }
    return;
  }
  const MemoryOrder order{k, k};
  const GenomeMemory memory(std::span(&segment, 1), std::span(&order, 1), parallel);
  constexpr std::size_t kTask = 65536;  // bases
  parallel(static_cast<std::int64_t>((asked.size() + kTask - 1) / kTask),
           [&](int, std::int64_t task) {
             const std::size_t from = static_cast<std::size_t>(task) * kTask;
             for (std::size_t i = from; i < std::min(from + kTask, asked.size()); ++i) {
               memory.counts(0, asked[i].position, counts[i].data());
             }
           });
}

float mixed(const Counts& n, const BaseProbabilities& p, std::size_t base, float alpha) {
  const float total = static_cast<float>(n[0] + n[1] + n[2] + n[3]);
  return (static_cast<float>(n[base]) + alpha * p[base]) / (total + alpha);
}

}  // namespace

std::uint64_t adaptive_baseline_memory(std::int64_t longest, std::int64_t asked, int workers) {
  constexpr MemoryOrder order{AdaptiveResult::kMaxSide, AdaptiveResult::kMaxSide};
  // Of one long segment by all workers, or of as many short ones.
  const std::uint64_t tables = std::max(
      GenomeMemory::memory_needed(longest, 1, std::span(&order, 1), workers),
      GenomeMemory::memory_needed(std::min(longest, kLongSegment), 1, std::span(&order, 1)) *
          static_cast<std::uint64_t>(workers));
  return tables + static_cast<std::uint64_t>(asked) *
                      (sizeof(AskedBase) + sizeof(BaseProbabilities) + sizeof(Counts));
}

AdaptiveResult adaptive_baseline(std::span<const TokenView> segments,
                                 std::span<const AskedBase> asked, std::vector<BaseProbabilities> p,
                                 const ParallelFor& parallel) {
  if (p.size() != asked.size()) {
    throw Error(ErrorKind::kInternal, "adaptive baseline: not a prediction for each base");
  }
  std::vector<std::size_t> first(segments.size() + 1, asked.size());  // asked, by segment
  for (std::size_t i = asked.size(); i-- > 0;) first[asked[i].segment] = i;
  for (std::size_t s = segments.size(); s-- > 0;) first[s] = std::min(first[s], first[s + 1]);
  std::vector<Counts> counts(asked.size());
  const auto target = [&](std::size_t i) -> std::size_t {
    return segments[asked[i].segment].tokens[asked[i].position];
  };
  AdaptiveResult result;
  for (std::size_t i = 0; i < p.size(); ++i) result.bits -= std::log2(p[i][target(i)]);
  const double least_gain = 1e-4 * static_cast<double>(asked.size());
  for (int k = 0; k <= AdaptiveResult::kMaxSide; ++k) {
    const auto count = [&](std::size_t s, const ParallelFor& with) {
      count_segment(segments[s], k, asked.subspan(first[s], first[s + 1] - first[s]), with,
                    counts.data() + first[s]);
    };
    // Long ones one after the other, each by all threads; short ones side by side.
    std::vector<std::size_t> brief;
    for (std::size_t s = 0; s < segments.size(); ++s) {
      if (segments[s].length < kLongSegment) {
        brief.push_back(s);
      } else {
        count(s, parallel);
      }
    }
    parallel(static_cast<std::int64_t>(brief.size()), [&](int, std::int64_t task) {
      count(brief[static_cast<std::size_t>(task)], serial_for);
    });
    constexpr std::array<float, 6> kAlphas = {2, 8, 32, 128, 512, 2048};
    std::array<double, kAlphas.size()> bits{};
    parallel(kAlphas.size(), [&](int, std::int64_t a) {
      const auto at = static_cast<std::size_t>(a);
      double sum = 0;
      for (std::size_t i = 0; i < p.size(); ++i) {
        sum -= std::log2(mixed(counts[i], p[i], target(i), kAlphas[at]));
      }
      bits[at] = sum;
    });
    const auto best = std::min_element(bits.begin(), bits.end());
    if (!(*best < result.bits - least_gain)) continue;
    const float alpha = kAlphas[static_cast<std::size_t>(best - bits.begin())];
    for (std::size_t i = 0; i < p.size(); ++i) {
      BaseProbabilities q;
      for (std::size_t b = 0; b < kBases; ++b) q[b] = mixed(counts[i], p[i], b, alpha);
      p[i] = q;
    }
    result.bits = *best;
    result.alpha_by_k[static_cast<std::size_t>(k)] = alpha;
  }
  for (std::size_t i = 0; i < p.size(); ++i) {
    const auto likeliest = std::max_element(p[i].begin(), p[i].end()) - p[i].begin();
    result.correct += static_cast<std::size_t>(likeliest) == target(i);
  }
  return result;
}

}  // namespace m5
