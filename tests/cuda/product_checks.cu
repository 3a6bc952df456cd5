// Matrix products with what is fused with them, and what chooses among their algorithms.
#include "check_arrays.hpp"
#include "kernel_checks.hpp"
#include "kernels/cuda/choice.hpp"
#include "kernels/cuda/products.hpp"

namespace m5::kernels::cuda {
namespace {

template <class E>
class Checks : CheckList<E> {
 public:
  using CheckList<E>::CheckList;

  void all() {
    products(37, 16, 24);
    products(200, 136, 64);
    // Rows of whole parts, of less than one, and of both.
    for (const int parts : {0, 1, 3}) {
      for (const int more : {0, 77}) sums_over_rows(parts, more);
    }
    alike();
  }

 private:
  using CheckList<E>::check;
  using CheckList<E>::operand;
  using CheckList<E>::kNarrow;
  using CheckList<E>::device_;
  using CheckList<E>::ref_;

  void products(int n, int in, int out) {
    const std::string at =
        " of " + std::to_string(n) + " rows, " + std::to_string(in) + " to " + std::to_string(out);
    const Values x = random_values(n * in, 31), w = random_values(out * in, 32),
                 bias = random_values(out, 33), add = random_values(n * out, 34),
                 dy = random_values(n * out, 35), kept = random_values(n * in, 36, 2);
    const auto X = operand(x), W = operand(w), B = operand(bias), DY = operand(dy),
               K = operand(kept);
    Products products(device_, 2 * n);
    const auto linear = ref_->make_linear(in, out, Backend<double>::kForwardAndBackward);
    using Then = Backend<double>::Then;
    Values y = add, plain(y.size()), dx(x.size());
    ref_->pack(*linear, w.data(), bias.data());
    ref_->linear(0, *linear, n, x.data(), y.data(), Then::kAdd);
    ref_->linear(0, *linear, n, x.data(), plain.data(), Then::kStore);
    // Library and fallback may round the product before they add to it.
    const double tolerance = kNarrow ? 0x1p-7 : 5e-6;
    const auto A = operand(add);
    auto Z = room<E>(device_, n * out);
    products.forward(n, in, out, X.data(), W.data(), B.data(), A.data(), Z.data());
    check("product, added" + at, get(device_, Z), y, tolerance);
    Values activated(y.size());
    ref_->gelu(0, n * out, plain.data(), activated.data());
    auto P = room<E>(device_, n * out), G = room<E>(device_, n * out);
    products.forward_gelu(n, in, out, X.data(), W.data(), B.data(), P.data(), G.data());
    check("product, gelu" + at, get(device_, G), activated, kNarrow ? 0x1p-7 : 1e-5);
    check("product, gelu's input" + at, get(device_, P), plain, tolerance);
    ref_->linear_backward_input(0, *linear, n, dy.data(), dx.data(), false);
    auto DX = room<E>(device_, n * in);
    ref_->gelu_backward(0, n * in, kept.data(), dx.data(), dx.data());
    products.backward_input(n, in, out, DY.data(), W.data(), K.data(), DX.data());
    check("product backward, gelu" + at, get(device_, DX), dx, kNarrow ? 0x1p-7 : 1e-5);
  }

  // The first `count` numbers of dy^T x, added to 1.
  Values sum_over_rows(std::int64_t n, int in, int out, const Values& x, const Values& dy,
                       std::int64_t count) {
    const auto X = operand(x), DY = operand(dy);
    auto sum = put_typed(device_, Values(static_cast<std::size_t>(count), 1.0));
    Products products(device_, n);
    add_product(device_, products, n, in, out, X, DY, sum);
    return get_typed(device_, sum);
  }

  void sums_over_rows(int parts, int more) {
    const int in = 16, out = 8, count = 120;
    const std::int64_t n = parts * kProductRows<E> + more;
    if (n == 0) return;
    const Values x = random_values(n * in, 41), dy = random_values(n * out, 42);
    Values expected(count, 1.0);
    for (std::int64_t row = 0; row < n; ++row) {
      for (std::int64_t i = 0; i < count; ++i) {
        expected[static_cast<std::size_t>(i)] += dy[static_cast<std::size_t>(row * out + i / in)] *
                                                 x[static_cast<std::size_t>(row * in + i % in)];
      }
    }
    check("product of " + std::to_string(n) + " rows", sum_over_rows(n, in, out, x, dy, count),
          expected, kNarrow ? 2e-5 : 2e-6);
  }

  // All roundings of a sum of such rows go the same way. In one sum: 1.8e-5, in bf16 by coarse
  // tensor cores 5.5e-3.
  void alike() {
    const int in = 8, out = 8, n = kNarrow ? 131072 : 8192;
    const double value = kNarrow ? 0.84765625 : 0.7f;
    const Values x(std::size_t{n} * in, value), dy(std::size_t{n} * out, value);
    check("product of rows that are alike", sum_over_rows(n, in, out, x, dy, in * out),
          Values(std::size_t{in} * out, 1 + n * value * value), kNarrow ? 2e-3 : 1e-5);
  }
};

// What chooses among the algorithms of a product: numbers for it, and a difference in any word.
class ChoiceChecks : CheckList<bf16> {
 public:
  using CheckList<bf16>::CheckList;

  void all() {
    const auto words = [&](unsigned seed) {
      auto array = put_typed(device_, std::vector<unsigned>(kWords + 1, kUntouched));
      random_pairs(device_, kWords, seed, array.data());
      return array;
    };
    const auto a = words(1), other = words(2);
    const std::vector<unsigned> x = get_typed(device_, a), y = get_typed(device_, other);
    double sum = 0, squares = 0, greatest = 0, product = 0, same = 0;
    const auto number = [](unsigned word, int half) {
      return static_cast<double>(to_float(bf16{static_cast<std::uint16_t>(word >> 16 * half)}));
    };
    for (std::size_t i = 0; i < kWords; ++i) {
      same += x[i] == y[i];
      product += number(x[i], 0) * number(x[i], 1);
      for (const int half : {0, 1}) {
        const double v = number(x[i], half);
        sum += v;
        squares += v * v;
        greatest = std::max(greatest, std::abs(v));
      }
    }
    // Uniform in [-1, 1]; four standard deviations.
    const double n = 2 * kWords;
    check("numbers of a choice: greatest", {greatest}, {1}, 0x1p-7);
    check("their mean", {1 + sum / n}, {1}, 4 * std::sqrt(1 / 3.0 / n));
    check("their squares", {squares / n}, {1 / 3.0}, 3 * 4 * std::sqrt(4 / 45.0 / n));
    check("those of a pair", {1 + product / kWords}, {1}, 4 / 3.0 / std::sqrt(kWords));
    check("those of another seed, equal", {same}, {0}, 2);
    check("the word behind them", {static_cast<double>(x[kWords])}, {1.0 * kUntouched}, 0);

    const auto differ = [&](const std::vector<unsigned>& changed, int before) {
      auto flag = put_typed(device_, std::vector<int>{before});
      const auto to = put_typed(device_, changed);
      compare_words(device_, kWords, a.data(), to.data(), flag.data());
      return static_cast<double>(get_typed(device_, flag)[0]);
    };
    std::vector<unsigned> changed = x;
    changed[kWords] = 0;  // is none of them
    Values flags{differ(changed, 0), differ(changed, 1)}, expected{0, 1};
    for (const std::size_t at : {0, 255, 256, 700, kWords - 1}) {
      for (const unsigned bit : {1u, 1u << 31}) {
        changed = x;
        changed[at] ^= bit;
        flags.push_back(differ(changed, 0));
        expected.push_back(1);
      }
    }
    check("what differs", flags, expected, 0);
  }

 private:
  static constexpr int kWords = 1000;
  static constexpr unsigned kUntouched = 0x12345678;
};

}  // namespace

void product_checks(Device& device, std::vector<Check>& checks) {
  ChoiceChecks(device, checks).all();
  Checks<float>(device, checks).all();
  Checks<bf16>(device, checks).all();
}

}  // namespace m5::kernels::cuda
