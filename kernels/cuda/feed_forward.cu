// Which of the kernels of a feed-forward is taken.
#include <cmath>
#include <cstring>
#include <vector>

#include "base/random.hpp"
#include "kernels/cuda/fused.hpp"

namespace m5::kernels::cuda {

void feed_forward(Device& device, std::int64_t n, const FeedForward& p, const bf16* o,
                  const bf16* x, bf16* out) {
  if (p.warpgroups && takes_warpgroups(device, p.dim, p.ff)) {
    return feed_forward_by_warpgroups(device, n, p, o, x, out);
  }
  feed_forward_by_warps(device, n, p, o, x, out);
}

bool warpgroups_agree(Device& device, int dim, int ff, std::int64_t rows) {
  if (!takes_warpgroups(device, dim, ff)) return false;
  std::uint64_t seed = 0;
  const auto operand = [&](std::int64_t count, double greatest) {
    constexpr std::size_t kPeriod = 262139;  // a prime: no two rows are alike
    std::vector<bf16> values(static_cast<std::size_t>(count));
    ++seed;
    for (std::size_t i = 0; i < values.size(); ++i) {
      values[i] = i >= kPeriod
                      ? values[i - kPeriod]
                      : from_float<bf16>(static_cast<float>(greatest * (2 * uniform(seed, i) - 1)));
    }
    Array<bf16> array(device, count, "comparing kernels");
    device.upload(array.data(), values.data(), array.bytes());
    return array;
  };
  const double root = std::sqrt(dim);
  const auto x = operand(rows * dim, 2), o = operand(rows * dim, 2),
             output = operand(std::int64_t{dim} * dim, 1 / root), output_bias = operand(dim, 1),
             up = operand(std::int64_t{ff} * dim, 4 / root), up_bias = operand(ff, 1),
             down = operand(std::int64_t{ff} * dim, 2 / std::sqrt(ff)), down_bias = operand(dim, 1);
  std::vector<float> gains(static_cast<std::size_t>(dim));
  for (std::size_t i = 0; i < gains.size(); ++i) gains[i] = 0.5f + static_cast<float>(i % 7) / 6;
  Array<float> gain(device, dim, "comparing kernels");
  device.upload(gain.data(), gains.data(), gain.bytes());
  FeedForward p{dim,         ff,        1e-5f,          output.data(), output_bias.data(),
                gain.data(), up.data(), up_bias.data(), down.data(),   down_bias.data()};
  Array<bf16> out(device, rows * dim, "comparing kernels");
  const auto run = [&](bool warpgroups, bool in_place) {
    p.warpgroups = warpgroups;
    device.fill(out.data(), 0xff, out.bytes());  // NaN, where a kernel leaves something out
    if (in_place) device.copy(out.data(), x.data(), out.bytes());
    feed_forward(device, rows, p, o.data(), in_place ? out.data() : x.data(), out.data());
    std::vector<bf16> values(out.size());
    device.download(values.data(), out.data(), out.bytes());
    return values;
  };
  // Roundings of single numbers to bf16 differ, by up to 1/128 of one.
  constexpr float kTolerance = 1.0f / 16;
  const std::vector<bf16> expected = run(false, false), values = run(true, false);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const float e = to_float(expected[i]), difference = std::abs(to_float(values[i]) - e);
    if (!(difference <= kTolerance * std::fmax(1.0f, std::abs(e)))) return false;
  }
  // What comes too late or too early does not do so twice in the same way.
  for (const bool in_place : {false, true, false, true}) {
    const std::vector<bf16> again = run(true, in_place);
    if (std::memcmp(again.data(), values.data(), values.size() * sizeof(bf16)) != 0) return false;
  }
  return true;
}

}  // namespace m5::kernels::cuda
