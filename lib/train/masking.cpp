#include "train/masking.hpp"

#include <cmath>

#include "base/random.hpp"
#include "m5/error.hpp"

namespace m5 {

// Beside the counters of windows.cpp, which count down from the greatest.
constexpr std::uint64_t kDrawPhase = ~std::uint64_t{0} - 16;

void check_mask_options(const MaskOptions& o) {
  if (!(o.rate > 0 && o.rate <= 1)) {
    throw Error(ErrorKind::kUsage, "--mask-rate: must be greater than 0 and at most 1");
  }
  if (!(o.every >= 0)) throw Error(ErrorKind::kUsage, "--mask-every: must be 0 (off) or more");
  for (const double share : {o.masked, o.substituted, o.kept}) {
    if (!(share >= 0 && share <= 1)) {
      throw Error(ErrorKind::kUsage, "--mask-shares: every share must be between 0 and 1");
    }
  }
  if (!(std::abs(o.masked + o.substituted + o.kept - 1) < 1e-6)) {
    throw Error(ErrorKind::kUsage, "--mask-shares: the three shares must add up to 1");
  }
}

void mask_window(const WindowId& id, const MaskOptions& options, std::int64_t first_row,
                 std::span<Token> tokens, Objective& objective) {
  // One draw of 64 bits a position: the low 24 choose it, the next 24 say what happens to it, the
  // high 16 which of the three other bases replaces it.
  constexpr double kUnit24 = 0x1p-24;
  const std::uint64_t key = window_key(id);
  const auto every = static_cast<std::uint64_t>(options.every);
  const std::uint64_t phase = every > 0 ? uniform_below(key, kDrawPhase, every) : 0;
  const double from_kept = options.masked + options.substituted;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const Token base = tokens[i];
    if (!is_base(base)) continue;
    const std::uint64_t bits = random_bits(key, i);
    if (every > 0 ? i % every != phase
                  : static_cast<double>(bits & 0xffffff) * kUnit24 >= options.rate) {
      continue;
    }
    const double fate = static_cast<double>((bits >> 24) & 0xffffff) * kUnit24;
    TargetKind kind = TargetKind::kKept;
    if (fate < options.masked) {
      kind = TargetKind::kMasked;
      tokens[i] = kTokenMask;
    } else if (fate < from_kept) {
      kind = TargetKind::kSubstituted;
      const std::uint64_t shift = 1 + (bits >> 48) * 3 / 65536;
      tokens[i] = static_cast<Token>((base + shift) % kBases);
    }
    objective.rows.push_back(first_row + static_cast<std::int64_t>(i));
    objective.targets.push_back(base);
    objective.kinds.push_back(kind);
  }
}

}  // namespace m5
