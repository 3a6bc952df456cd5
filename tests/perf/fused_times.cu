#include "fused_times.hpp"

#include <cmath>
#include <cstdio>
#include <string>
#include <vector>

#include "kernel_times.hpp"
#include "kernels/cuda/fused.hpp"
#include "kernels/cuda/library.hpp"
#include "kernels/cuda/products.hpp"
#include "kernels/cuda/rows.hpp"

namespace m5::kernels::cuda {

void fused_times(Device& device, double rate, double copy, bool measured_products) {
  std::printf("\n%4s  %-32s %10s %10s %12s %8s\n", "d", "ns a row", "separate", "fused",
              "of TFLOP/s", "of TB/s");
  constexpr std::int64_t n = kChunkRows;
  constexpr float epsilon = 1e-5f;
  Products products(device, n, measured_products);
  // bytes: read and written by the fused one, but for weights.
  const auto row = [&](int d, const std::string& name, double operations, double bytes,
                       auto separate, auto fused) {
    const double before = seconds(device, separate) / n, after = seconds(device, fused) / n;
    std::printf("%4d  %-32s %10.3f %10.3f %11.1f%% %7.1f%%\n", d, name.c_str(), before * 1e9,
                after * 1e9, 100 * operations / after / rate, 100 * bytes / after / copy);
    std::fflush(stdout);
  };
  const auto ones_of = [](Device& on, int d) {
    const std::vector<float> ones(static_cast<std::size_t>(d), 1.0f);
    Array<float> gain(on, d, "gain");
    on.upload(gain.data(), ones.data(), gain.bytes());
    return gain;
  };
  for (const int d : {64, 128, 256}) {
    const int ff = 4 * d;
    const double scale = 2 / std::sqrt(d);
    const auto x = random_operand(device, n * d, 1), o = random_operand(device, n * d, 1),
               w = random_operand(device, std::int64_t{ff} * d, scale),
               down = random_operand(device, std::int64_t{ff} * d, scale / 2),
               bias = random_operand(device, ff, 0.1);
    Array<bf16> y(device, n * d, "y"), h(device, n * d, "h"), z(device, n * ff, "z");
    const auto gain = ones_of(device, d);
    // Keys and queries.
    const int keys = 3 * d / 2, queries = d / 2;
    bf16* const q = z.data() + n * keys;
    row(
        d, "norm, keys, queries", 2.0 * d * (keys + queries), 2.0 * (d + keys + queries),
        [&] {
          norm(device, n, d, epsilon, x.data(), gain.data(), h.data(), nullptr);
          products.forward<bf16>(n, d, keys, h.data(), w.data(), nullptr, nullptr, z.data());
          products.forward<bf16>(n, d, queries, h.data(), down.data(), nullptr, nullptr, q);
        },
        [&] {
          norm_product(
              device, n,
              {d, epsilon, gain.data(), {w.data(), keys, z.data()}, {down.data(), queries, q}},
              x.data());
        });
    FeedForward p{d,           ff,       epsilon,     down.data(), bias.data(),
                  gain.data(), w.data(), bias.data(), down.data(), bias.data()};
    const auto feed_forward_of = [&](const bf16* from) {
      norm(device, n, d, epsilon, from, gain.data(), h.data(), nullptr);
      products.forward_gelu<bf16>(n, d, ff, h.data(), w.data(), bias.data(), nullptr, z.data());
      products.forward<bf16>(n, ff, d, z.data(), down.data(), bias.data(), from, y.data());
    };
    for (const bool warpgroups : {false, true}) {
      if (warpgroups && !takes_warpgroups(device, d, ff)) continue;
      p.warpgroups = warpgroups;
      const std::string by = warpgroups ? ", wgmma" : "";
      row(
          d, "feed-forward" + by, 4.0 * d * ff, 4.0 * d, [&] { feed_forward_of(x.data()); },
          [&] { feed_forward(device, n, p, nullptr, x.data(), y.data()); });
      row(
          d, "output and feed-forward" + by, 4.0 * d * ff + 2.0 * d * d, 6.0 * d,
          [&] {
            products.forward<bf16>(n, d, d, o.data(), down.data(), bias.data(), x.data(), y.data());
            feed_forward_of(y.data());
          },
          [&] { feed_forward(device, n, p, o.data(), x.data(), y.data()); });
    }
  }
  // Of rows too wide for the whole.
  const int d = 512, ff = 4 * d;
  if (!takes_norm_gelu(device, d, ff)) return;
  const auto x = random_operand(device, n * d, 1),
             w = random_operand(device, std::int64_t{ff} * d, 0.1),
             bias = random_operand(device, ff, 0.1);
  Array<bf16> h(device, n * d, "h"), z(device, n * ff, "z");
  const auto gain = ones_of(device, d);
  row(
      d, "norm, up, gelu, wgmma", 2.0 * d * ff, 2.0 * (d + ff),
      [&] {
        norm(device, n, d, epsilon, x.data(), gain.data(), h.data(), nullptr);
        products.forward_gelu<bf16>(n, d, ff, h.data(), w.data(), bias.data(), nullptr, z.data());
      },
      [&] {
        norm_gelu(device, n, {ff, epsilon, gain.data(), w.data(), bias.data()}, x.data(), z.data());
      });
}

}  // namespace m5::kernels::cuda
