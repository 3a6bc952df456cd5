#include "kernels/math/minimax.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "m5/error.hpp"

namespace m5::kernels {
namespace {

// The least relative errors of the method's table, to the digits it prints.
TEST(Minimax, ErrorsOfTheTable) {
  struct Row {
    double bound;
    double error[4];  // p = 2, 4, 6, 8
  };
  const Row rows[] = {{1, {4.0e-2, 5.0e-4, 3.0e-6, 1.1e-8}},
                      {2, {2.7e-1, 1.4e-2, 3.6e-4, 5.0e-6}},
                      {3, {6.4e-1, 9.2e-2, 5.3e-3, 1.7e-4}},
                      {4, {8.9e-1, 3.0e-1, 3.3e-2, 2.0e-3}}};
  for (const Row& row : rows) {
    for (int i = 0; i < 4; ++i) {
      const int order = 2 * (i + 1);
      const double error = relative_error_to_exp(minimax_exp(order, row.bound), row.bound);
      const double unit = std::pow(10, std::floor(std::log10(row.error[i])) - 1);  // last digit
      EXPECT_NEAR(error, row.error[i], 0.5 * unit * (1 + 1e-9))
          << "order " << order << ", bound " << row.bound;
    }
  }
}

// Optimal if and only if the error takes its greatest value p + 2 times with alternating signs.
TEST(Minimax, ErrorAlternates) {
  for (double bound : {0.5, 1.0, 2.0, 3.0, 4.0, 8.0}) {
    for (int order : {2, 4, 6, 8}) {
      const std::vector<double> c = minimax_exp(order, bound);
      const double greatest = relative_error_to_exp(c, bound);
      if (greatest < 1e-9) continue;  // the doubles' own rounding is visible
      int alternations = 0, last_sign = 0;
      for (int i = 0; i <= 200000; ++i) {
        const double x = bound * (i / 100000.0 - 1);
        double value = 0;
        for (int n = order; n >= 0; --n) value = value * x + c[static_cast<std::size_t>(n)];
        const double error = value / std::exp(x) - 1;
        EXPECT_LE(std::abs(error), greatest * (1 + 1e-6));
        const int sign = error > 0 ? 1 : -1;
        if (std::abs(error) > greatest * (1 - 1e-6) && sign != last_sign) {
          ++alternations;
          last_sign = sign;
        }
      }
      EXPECT_EQ(alternations, order + 2) << "order " << order << ", bound " << bound;
    }
  }
}

TEST(Minimax, CoefficientsArePositive) {
  for (double bound : {1e-3, 1e-2, 0.1, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0}) {
    for (int order : {2, 4, 6, 8}) {
      const std::vector<double> c = minimax_exp(order, bound);
      ASSERT_EQ(c.size(), static_cast<std::size_t>(order) + 1);
      for (double value : c) EXPECT_GT(value, 0) << "order " << order << ", bound " << bound;
    }
  }
}

TEST(Minimax, TaylorIsFarWorse) {
  const std::vector<double> taylor = {1, 1, 0.5, 1.0 / 6, 1.0 / 24};
  EXPECT_NEAR(relative_error_to_exp(taylor, 2), 1.46, 0.02);  // P(-2) = 1/3 against exp(-2)
  EXPECT_LT(relative_error_to_exp(minimax_exp(4, 2), 2), 0.015);
}

TEST(Minimax, RefusesWhatIsOutOfRange) {
  for (int order : {-2, 0, 1, 3, 5, 10}) EXPECT_THROW(minimax_exp(order, 2), Error);
  for (double bound : {0.0, -1.0, 8.5, std::nan(""), HUGE_VAL}) {
    EXPECT_THROW(minimax_exp(4, bound), Error);
  }
}

}  // namespace
}  // namespace m5::kernels
