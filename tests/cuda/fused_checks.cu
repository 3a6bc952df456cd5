// Kernels that fuse parts of a layer: they round what separate kernels would store.
#include "check_arrays.hpp"
#include "kernel_checks.hpp"
#include "kernels/cuda/fused.hpp"

namespace m5::kernels::cuda {
namespace {

class FusedChecks : CheckList<bf16> {
 public:
  using CheckList<bf16>::CheckList;

  void all() {
    // So many stages that all buffers are used again, so many rows that all warps have some.
    feed_forward(600, 64, 192, true);
    feed_forward(300, 128, 192, true);
    feed_forward(150, 256, 160, true);
    feed_forward(200, 128, 320, true, true);
    feed_forward(150, 256, 256, true, true);
    feed_forward(33, 256, 64, false, true);
    norm_gelu(200, 512, 320);
    norm_gelu(1, 512, 64);
    feed_forward(33, 128, 96, false);
    for (const int d : {64, 128, 256}) {
      feed_forward(1, d, 32, d == 64);
      norm_product(1, d, 0, 32);
      norm_product(170, d, 128, 64);
    }
  }

 private:
  static Values rounded(Values v) {
    for (double& e : v) e = to_float(from_float<bf16>(static_cast<float>(e)));
    return v;
  }
  std::unique_ptr<Linear<double>> linear(int in, int out, const Values& w, const Values& bias) {
    auto made = ref_->make_linear(in, out, Backend<double>::kForward);
    ref_->pack(*made, w.data(), bias.empty() ? nullptr : bias.data());
    return made;
  }

  // A row does not depend on where it lies, on how many there are, on what the others hold.
  // run(arrays of n rows, the first row, rows) of the results y.
  template <class Run>
  void rows_alone(const std::string& name, int n, int columns, const Values& x, int d,
                  const Values& y, Run run) {
    Values great = x;
    const int lost = n / 3;
    for (int k = 0; k < d; ++k) great[static_cast<std::size_t>(lost * d + k)] = 1e30;
    const auto from = operand(n > 1 ? great : x);
    for (const auto& [first, rows] : {std::pair{0, n}, {0, 1}, {n / 3 + 1, n / 2}}) {
      if (rows < 1 || first + rows > n) continue;
      Values alone = run(from, first, rows);
      if (first == 0 && rows == n && n > 1) {
        const auto at = static_cast<std::size_t>(lost * columns);
        check(name + ", a row of great numbers is NaN", {std::isnan(alone[at]) ? 0.0 : 1.0}, {0.0},
              0);
        std::copy_n(y.begin() + lost * columns, columns, alone.begin() + lost * columns);
      }
      check(name + ", " + std::to_string(rows) + " rows from " + std::to_string(first), alone,
            Values(y.begin() + std::int64_t{first} * columns,
                   y.begin() + std::int64_t{first + rows} * columns),
            0);
    }
  }

  // Two products, or the second alone.
  void norm_product(int n, int d, int first, int second) {
    const std::string name = "norm and product of " + std::to_string(n) + " rows, " +
                             std::to_string(d) + " to " + std::to_string(first) + " and " +
                             std::to_string(second) + " columns";
    const Values x = random_values(std::int64_t{n} * d, 51, 2), gain = random_values(d, 52);
    Values normed(x.size());
    ref_->norm(0, n, d, 1e-5, x.data(), gain.data(), normed.data());
    const auto G = wide(gain);
    const auto X = operand(x);
    for (const bool of_first : {true, false}) {
      const int columns = of_first ? first : second;
      if (columns == 0) continue;
      const Values w = random_values(std::int64_t{columns} * d, 53);
      const auto W = operand(w);
      const auto run = [&](const Array<bf16>& from, std::int64_t at, std::int64_t rows) {
        auto Y = room<bf16>(device_, rows * columns),
             other = room<bf16>(device_, rows * (of_first ? second : first));
        auto other_w = room<bf16>(device_, std::int64_t{of_first ? second : first} * d);
        NormProduct p{d,
                      1e-5f,
                      G.data(),
                      {W.data(), columns, Y.data()},
                      {other_w.data(), second, other.data()}};
        if (!of_first) {
          p.first = {other_w.data(), first, other.data()};
          p.second = {W.data(), columns, Y.data()};
        }
        cuda::norm_product(device_, rows, p, from.data() + at * d);
        return get(device_, Y);
      };
      Values expected(static_cast<std::size_t>(n) * static_cast<std::size_t>(columns));
      ref_->linear(0, *linear(d, columns, w, {}), n, rounded(normed).data(), expected.data(),
                   Backend<double>::Then::kStore);
      const Values y = run(X, 0, n);
      const std::string which = name + (of_first ? ", the first" : ", the second");
      check(which, y, expected, kStored);
      rows_alone(which, n, columns, x, d, y, run);
    }
  }

  void norm_gelu(int n, int d, int columns) {
    if (!takes_norm_gelu(device_, d, columns)) return;
    const std::string name = "norm, product and gelu of " + std::to_string(n) + " rows, " +
                             std::to_string(d) + " to " + std::to_string(columns) +
                             ", by warpgroups";
    const Values x = random_values(std::int64_t{n} * d, 41, 2), gain = random_values(d, 42),
                 w = random_values(std::int64_t{columns} * d, 43, 4 / std::sqrt(d)),
                 b = random_values(columns, 44);
    const auto X = operand(x), W = operand(w), B = operand(b);
    const auto G = wide(gain);
    const auto run = [&](const Array<bf16>& from, std::int64_t first, std::int64_t rows) {
      auto Y = room<bf16>(device_, rows * columns);
      cuda::norm_gelu(device_, rows, {columns, 1e-5f, G.data(), W.data(), B.data()},
                      from.data() + first * d, Y.data());
      return get(device_, Y);
    };
    Values normed(x.size()),
        expected(static_cast<std::size_t>(n) * static_cast<std::size_t>(columns));
    ref_->norm(0, n, d, 1e-5, x.data(), gain.data(), normed.data());
    ref_->linear(0, *linear(d, columns, w, b), n, rounded(normed).data(), expected.data(),
                 Backend<double>::Then::kStore);
    ref_->gelu(0, std::int64_t{n} * columns, expected.data(), expected.data());
    const Values y = run(X, 0, n);
    check(name, y, expected, kStored);
    rows_alone(name, n, columns, x, d, y, run);
  }

  void feed_forward(int n, int d, int ff, bool output, bool warpgroups = false) {
    const std::string name = "feed-forward of " + std::to_string(n) + " rows, " +
                             std::to_string(d) + " to " + std::to_string(ff) +
                             (output ? ", with output" : "") +
                             (warpgroups ? ", by warpgroups" : "");
    if (warpgroups && !takes_warpgroups(device_, d, ff)) return;
    const double root = std::sqrt(d);
    const Values x = random_values(std::int64_t{n} * d, 41, 2),
                 o = random_values(std::int64_t{n} * d, 47), w = random_values(d * d, 48, 4 / root),
                 b = random_values(d, 49), gain = random_values(d, 42),
                 up = random_values(ff * d, 43, 4 / root), up_bias = random_values(ff, 44),
                 down = random_values(d * ff, 45, 0.5), down_bias = random_values(d, 46);
    const auto G = wide(gain);
    const auto O = operand(o), W = operand(w), B = operand(b), U = operand(up),
               UB = operand(up_bias), D = operand(down), DB = operand(down_bias), X = operand(x);
    const FeedForward p{d,        ff,        1e-5f,    W.data(),  B.data(),  G.data(),
                        U.data(), UB.data(), D.data(), DB.data(), warpgroups};
    const auto run = [&](const Array<bf16>& from, std::int64_t first, std::int64_t rows) {
      auto Y = room<bf16>(device_, rows * d);
      cuda::feed_forward(device_, rows, p, output ? O.data() + first * d : nullptr,
                         from.data() + first * d, Y.data());
      return get(device_, Y);
    };
    using Then = Backend<double>::Then;
    Values expected = x, normed(x.size()),
           hidden(static_cast<std::size_t>(n) * static_cast<std::size_t>(ff));
    if (output) ref_->linear(0, *linear(d, d, w, b), n, o.data(), expected.data(), Then::kAdd);
    expected = rounded(expected);
    ref_->norm(0, n, d, 1e-5, expected.data(), gain.data(), normed.data());
    ref_->linear(0, *linear(d, ff, up, up_bias), n, rounded(normed).data(), hidden.data(),
                 Then::kStore);
    ref_->gelu(0, std::int64_t{n} * ff, hidden.data(), hidden.data());
    ref_->linear(0, *linear(ff, d, down, down_bias), n, rounded(hidden).data(), expected.data(),
                 Then::kAdd);
    const Values y = run(X, 0, n);
    check(name, y, expected, kStored);
    auto in_place = operand(x);
    cuda::feed_forward(device_, n, p, output ? O.data() : nullptr, in_place.data(),
                       in_place.data());
    check(name + ", in place", get(device_, in_place), y, 0);
    rows_alone(name, n, d, x, d, y, run);
  }
};

}  // namespace

void fused_checks(Device& device, std::vector<Check>& checks) { FusedChecks(device, checks).all(); }

}  // namespace m5::kernels::cuda
