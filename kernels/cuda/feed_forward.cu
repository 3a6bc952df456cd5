// Which of the kernels of a feed-forward is taken, and whether those that cannot be proved without
// a GPU are right on this one.
#include <cmath>
#include <cstring>
#include <vector>

#include "base/random.hpp"
#include "kernels/cuda/formulas.hpp"
#include "kernels/cuda/fused.hpp"

namespace m5::kernels::cuda {

void feed_forward(Device& device, std::int64_t n, const FeedForward& p, const bf16* o,
                  const bf16* x, bf16* out) {
  if (p.warpgroups && takes_warpgroups(device, p.dim, p.ff)) {
    return feed_forward_by_warpgroups(device, n, p, o, x, out);
  }
  feed_forward_by_warps(device, n, p, o, x, out);
}

namespace {

constexpr const char* kWhat = "comparing kernels";
constexpr float kTolerance = 1.0f / 16;  // roundings of bf16 are up to 1/128 of a number

// Numbers in [-greatest, greatest), the same again after `period` of them.
std::vector<bf16> random_numbers(std::uint64_t seed, std::int64_t count, double greatest,
                                 std::size_t period = 262139) {  // a prime: no two rows are alike
  std::vector<bf16> values(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < values.size(); ++i) {
    const double number = i < period ? greatest * (2 * uniform(seed, i) - 1) : 0;
    values[i] = i < period ? from_float<bf16>(static_cast<float>(number)) : values[i - period];
  }
  return values;
}
std::vector<float> random_gain(int dim) {
  std::vector<float> gain(static_cast<std::size_t>(dim));
  for (std::size_t i = 0; i < gain.size(); ++i) gain[i] = 0.5f + static_cast<float>(i % 7) / 6;
  return gain;
}
template <class T>
Array<T> on_device(Device& device, const std::vector<T>& values) {
  Array<T> array(device, static_cast<std::int64_t>(values.size()), kWhat);
  device.upload(array.data(), values.data(), array.bytes());
  return array;
}
std::vector<bf16> on_host(Device& device, const Array<bf16>& array) {
  std::vector<bf16> values(array.size());
  device.download(values.data(), array.data(), array.bytes());
  return values;
}
bool near(bf16 value, float expected) {
  return std::abs(to_float(value) - expected) <=
         kTolerance * std::fmax(1.0f, std::abs(expected));  // false of NaN
}
bool same_bits(const bf16* x, const bf16* y, std::size_t count) {
  return std::memcmp(x, y, count * sizeof(bf16)) == 0;
}

}  // namespace

bool warpgroups_agree(Device& device, int dim, int ff, std::int64_t rows) {
  if (!takes_warpgroups(device, dim, ff)) return false;
  std::uint64_t seed = 0;
  const auto operand = [&](std::int64_t count, double greatest) {
    return on_device(device, random_numbers(++seed, count, greatest));
  };
  const double root = std::sqrt(dim);
  const auto x = operand(rows * dim, 2), o = operand(rows * dim, 2),
             output = operand(std::int64_t{dim} * dim, 1 / root), output_bias = operand(dim, 1),
             up = operand(std::int64_t{ff} * dim, 4 / root), up_bias = operand(ff, 1),
             down = operand(std::int64_t{ff} * dim, 2 / std::sqrt(ff)), down_bias = operand(dim, 1);
  const auto gain = on_device(device, random_gain(dim));
  FeedForward p{dim,         ff,        1e-5f,          output.data(), output_bias.data(),
                gain.data(), up.data(), up_bias.data(), down.data(),   down_bias.data()};
  Array<bf16> out(device, rows * dim, kWhat);
  const auto run = [&](bool warpgroups, bool in_place) {
    p.warpgroups = warpgroups;
    device.fill(out.data(), 0xff, out.bytes());  // NaN, where a kernel leaves something out
    if (in_place) device.copy(out.data(), x.data(), out.bytes());
    feed_forward(device, rows, p, o.data(), in_place ? out.data() : x.data(), out.data());
    return on_host(device, out);
  };
  const std::vector<bf16> expected = run(false, false), values = run(true, false);
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (!near(values[i], to_float(expected[i]))) return false;
  }
  // What comes too late or too early does not do so twice in the same way.
  for (const bool in_place : {false, true, false, true}) {
    if (!same_bits(run(true, in_place).data(), values.data(), values.size())) return false;
  }
  return true;
}

bool norm_gelu_agrees(Device& device, int dim, int columns, std::int64_t rows) {
  if (!takes_norm_gelu(device, dim, columns)) return false;
  constexpr std::size_t kDistinct = 13;  // rows: each of them in each place of a tile
  const auto d = static_cast<std::size_t>(dim), width = static_cast<std::size_t>(columns);
  const auto gain = random_gain(dim);
  const auto x = random_numbers(1, rows * dim, 2, kDistinct * d),
             weight = random_numbers(2, std::int64_t{columns} * dim, 4 / std::sqrt(dim)),
             bias = random_numbers(3, columns, 1);
  const auto X = on_device(device, x), W = on_device(device, weight), B = on_device(device, bias);
  const auto G = on_device(device, gain);
  const NormGelu p{columns, 1e-5f, G.data(), W.data(), B.data()};
  Array<bf16> out(device, rows * columns, kWhat);
  for (int run = 0; run < 4; ++run) {
    device.fill(out.data(), 0xff, out.bytes());
    norm_gelu(device, rows, p, X.data(), out.data());
    const std::vector<bf16> values = on_host(device, out);
    for (std::size_t row = kDistinct; row < static_cast<std::size_t>(rows); ++row) {
      const bf16* const first = values.data() + row % kDistinct * width;
      if (!same_bits(values.data() + row * width, first, width)) return false;
    }
    for (std::size_t row = 0; run == 0 && row < kDistinct; ++row) {
      std::vector<float> normed(d);
      double square = 0;
      for (std::size_t k = 0; k < d; ++k) {
        const double e = to_float(x[row * d + k]);
        square += e * e;
      }
      const double root = 1 / std::sqrt(square / dim + 1e-5);
      for (std::size_t k = 0; k < d; ++k) {
        const double e = to_float(x[row * d + k]) * root * gain[k];
        normed[k] = to_float(from_float<bf16>(static_cast<float>(e)));
      }
      for (std::size_t j = 0; j < width; ++j) {
        double sum = to_float(bias[j]);
        for (std::size_t k = 0; k < d; ++k) sum += to_float(weight[j * d + k]) * normed[k];
        if (!near(values[row * width + j], gelu_value(static_cast<float>(sum)))) return false;
      }
    }
  }
  return true;
}

}  // namespace m5::kernels::cuda
