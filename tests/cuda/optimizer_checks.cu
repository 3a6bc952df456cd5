// The kernels of the update against the formulas in double.
#include <limits>

#include "check_arrays.hpp"
#include "kernel_checks.hpp"
#include "kernels/cuda/muon.hpp"
#include "kernels/cuda/optimizer.hpp"

namespace m5::kernels::cuda {
namespace {

constexpr double kOnce = 0x1p-24;  // one rounding to fp32

class Checks : CheckList<float> {
 public:
  using CheckList<float>::CheckList;

  void all() {
    for (const std::int64_t count : {1, 255, 8192, 8193, 30011}) norms(count);
    averages();
    adamw();
    for (const auto& [rows, columns] : {std::pair{16, 40}, std::pair{40, 16}, std::pair{24, 24}}) {
      muon(rows, columns);
    }
  }

 private:
  static UpdateStep step() {
    return {.learning_rate = 0.03,
            .beta1 = 0.9,
            .beta2 = 0.98,
            .epsilon = 0.02,
            .weight_decay = 0.05,
            .correction1 = 0.271,
            .correction2 = 0.0588,
            .gradient_scale = 0.05};
  }

  void norms(std::int64_t count) {
    const Values x = random_values(count, 41);
    double expected = 0;
    for (const double v : x) expected += v * v;
    const auto wide_x = put_typed(device_, x);
    const auto narrow_x = wide(x);
    auto partial = put_typed(device_, Values(static_cast<std::size_t>(square_parts(count)))),
         sum = put_typed(device_, Values(1));
    const std::string at = " of " + std::to_string(count);
    squared_norm(device_, count, wide_x.data(), partial.data(), sum.data());
    check("squared_norm, double" + at, get_typed(device_, sum), {expected}, 1e-14);
    squared_norm(device_, count, narrow_x.data(), partial.data(), sum.data());
    check("squared_norm" + at, get_typed(device_, sum), {expected}, 1e-14);
  }

  void averages() {
    const std::int64_t n = 1000;
    const Values x = random_values(n, 42), before = random_values(n, 43, 1e6);
    Values mean(x.size());
    for (std::size_t i = 0; i < x.size(); ++i) {
      mean[i] = before[i] + 0.125 * (x[i] - before[i]);
    }
    const auto X = wide(x);
    auto average = wide(before);
    move_average(device_, n - 1, 0.125, X.data(), average.data());
    mean.back() = before.back();
    check("average", get(device_, average), mean, kOnce);
  }

  // Sets number `at` of one of gradient, m, v, p to `value`; gives the flag.
  int flag_of(int array, std::int64_t at, double value) {
    Values arrays[4] = {Values(6000, 0.5), Values(6000, 0.5), Values(6000, 0.5), Values(6000, 0.5)};
    arrays[array][static_cast<std::size_t>(at)] = value;
    const auto g = put_typed(device_, arrays[0]);
    auto m = wide(arrays[1]), v = wide(arrays[2]), p = wide(arrays[3]);
    const UpdatePart part{.offset = 1, .size = 5998};
    const auto stretches = put_typed(device_, stretches_of({&part, 1}));
    auto flag = put_typed(device_, std::vector<int>{0});
    cuda::adamw(device_, static_cast<std::int64_t>(stretches.size()), stretches.data(), step(),
                g.data(), m.data(), v.data(), p.data(), flag.data());
    return get_typed(device_, flag)[0];
  }

  void adamw() {
    const std::int64_t n = 14000;
    const Values gradient = random_values(n, 44, 20), m0 = random_values(n, 45),
                 p0 = random_values(n, 47);
    Values v0 = random_values(n, 46);
    for (double& v : v0) v *= v;
    // Longer than a stretch; a gap; short; Muon's, which is another kernel's.
    const std::vector<UpdatePart> parts{{.offset = 3, .size = 9001, .decay = true, .factor = 0.5},
                                        {.offset = 9100, .size = 8},
                                        {.offset = 9108, .size = 1, .decay = true, .factor = 2},
                                        {.offset = 10000, .size = 64, .rows = 8, .columns = 8}};
    Values m = m0, v = v0, p = p0;
    for (const UpdatePart& part : parts) {
      if (part.muon()) continue;
      Backend<double>::AdamW s;
      const UpdateStep from = step();
      s = {from.learning_rate * part.factor,
           from.beta1,
           from.beta2,
           from.epsilon,
           part.decay ? from.weight_decay : 0,
           from.correction1,
           from.correction2,
           from.gradient_scale};
      ref_->adamw(part.size, s, gradient.data() + part.offset, m.data() + part.offset,
                  v.data() + part.offset, p.data() + part.offset);
    }
    const auto g = put_typed(device_, gradient);
    auto M = wide(m0), V = wide(v0), P = wide(p0);
    for (std::size_t i = 0; i < v.size(); ++i) {  // squares are not bf16: as they are stored
      if (v[i] == v0[i]) v[i] = static_cast<double>(static_cast<float>(v0[i]));
    }
    const auto stretches = put_typed(device_, stretches_of(parts));
    auto flag = put_typed(device_, std::vector<int>{0});
    cuda::adamw(device_, static_cast<std::int64_t>(stretches.size()), stretches.data(), step(),
                g.data(), M.data(), V.data(), P.data(), flag.data());
    check("adamw, first moment", get(device_, M), m, kOnce);
    check("adamw, second moment", get(device_, V), v, 2 * kOnce);
    check("adamw", get(device_, P), p, 2 * kOnce);
    const double inf = std::numeric_limits<double>::infinity(), nan = std::nan("");
    const Values flags{static_cast<double>(get_typed(device_, flag)[0]),
                       static_cast<double>(flag_of(3, 0, nan)),  // in front of the part
                       static_cast<double>(flag_of(0, 1, nan)),
                       static_cast<double>(flag_of(0, 5998, inf)),
                       static_cast<double>(flag_of(0, 7, 1e200)),
                       static_cast<double>(flag_of(1, 100, inf)),
                       static_cast<double>(flag_of(2, 4097, nan)),
                       static_cast<double>(flag_of(3, 300, -inf))};
    check("adamw, what is not finite", flags, {0, 0, 1, 1, 1, 1, 1, 1}, 0);
  }

  // w, m of a matrix, in double.
  void muon_formula(const UpdatePart& part, const Values& gradient, Values& m, Values& w) {
    const auto rows = static_cast<std::size_t>(part.rows),
               columns = static_cast<std::size_t>(part.columns);
    const std::size_t most = std::max(rows, columns), n = rows * columns;
    Values x(n);
    double squares = 0;
    for (std::size_t i = 0; i < n; ++i) {
      const double g = gradient[i] * step().gradient_scale;
      m[i] = muon::kMomentum * m[i] + (1 - muon::kMomentum) * g;
      x[i] = muon::kMomentum * m[i] + (1 - muon::kMomentum) * g;
      squares += x[i] * x[i];
    }
    for (double& v : x) v /= std::sqrt(squares);
    // X X^T X and X X^T X X^T X, whichever side is the shorter one.
    const auto by_gram = [&](const Values& y) {
      Values gram(rows * rows), product(n);
      for (std::size_t i = 0; i < rows; ++i) {
        for (std::size_t j = 0; j < rows; ++j) {
          for (std::size_t k = 0; k < columns; ++k) {
            gram[i * rows + j] += x[i * columns + k] * x[j * columns + k];
          }
        }
      }
      for (std::size_t i = 0; i < rows; ++i) {
        for (std::size_t j = 0; j < rows; ++j) {
          for (std::size_t k = 0; k < columns; ++k) {
            product[i * columns + k] += gram[i * rows + j] * y[j * columns + k];
          }
        }
      }
      return product;
    };
    for (int s = 0; s < muon::kSteps; ++s) {
      const Values once = by_gram(x), twice = by_gram(once);
      for (std::size_t i = 0; i < n; ++i) {
        x[i] = static_cast<double>(muon::kA) * x[i] + static_cast<double>(muon::kB) * once[i] +
               static_cast<double>(muon::kC) * twice[i];
      }
    }
    const double move = muon::kScale * std::sqrt(static_cast<double>(most));
    const double decay = part.decay ? step().weight_decay : 0;
    for (std::size_t i = 0; i < n; ++i) {
      w[i] -= step().learning_rate * part.factor * (move * x[i] + decay * w[i]);
    }
  }

  void muon(int rows, int columns) {
    const std::int64_t n = std::int64_t{rows} * columns, least = std::min(rows, columns);
    const std::string at = " of " + std::to_string(rows) + " by " + std::to_string(columns);
    const UpdatePart part{.offset = 0,
                          .size = n,
                          .decay = rows != columns,
                          .factor = 3,
                          .rows = rows,
                          .columns = columns};
    const Values gradient = random_values(n, 48), m0 = random_values(n, 49, 0.1),
                 w0 = random_values(n, 50);
    Values m = m0, w = w0;
    muon_formula(part, gradient, m, w);
    const MuonSize size({&part, 1});
    MuonMemory memory;
    memory.x = room<float>(device_, size.matrix);
    memory.product = room<float>(device_, size.matrix);
    memory.gram = room<float>(device_, size.rows * size.rows);
    memory.square = room<float>(device_, size.rows * size.rows);
    memory.norm = put_typed(device_, Values(1));
    memory.products = std::make_unique<Products>(device_, size.rows);
    auto partial = put_typed(device_, Values(static_cast<std::size_t>(square_parts(n))));
    const auto run = [&](const Values& g, Values& m_after, Values& w_after) {
      const auto G = put_typed(device_, g);
      auto M = wide(m0), W = wide(w0);
      auto flag = put_typed(device_, std::vector<int>{0});
      muon_update(device_, memory, part, step(), G.data(), M.data(), W.data(), partial.data(),
                  flag.data());
      m_after = get(device_, M);
      w_after = get(device_, W);
      return static_cast<double>(get_typed(device_, flag)[0]);
    };
    Values m_after, w_after, unused;
    Values flags{run(gradient, m_after, w_after)};
    check("muon, momentum" + at, m_after, m, kOnce);
    check("muon" + at, w_after, w, 1e-5);
    Values bad = gradient;
    bad[static_cast<std::size_t>(least)] = std::nan("");
    flags.push_back(run(bad, unused, unused));
    check("muon, what is not finite" + at, flags, {0, 1}, 0);
  }
};

}  // namespace

void optimizer_checks(Device& device, std::vector<Check>& checks) { Checks(device, checks).all(); }

}  // namespace m5::kernels::cuda
