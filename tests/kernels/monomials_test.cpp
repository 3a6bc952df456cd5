#include "kernels/math/monomials.hpp"

#include <gtest/gtest.h>

namespace m5::kernels {
namespace {

TEST(Monomials, CountIsBinomial) {
  EXPECT_EQ(monomials(2).size(), 15u);
  EXPECT_EQ(monomials(4).size(), 70u);
  EXPECT_EQ(monomials(6).size(), 210u);
  EXPECT_EQ(monomials(8).size(), 495u);
}

TEST(Monomials, MultinomialTheorem) {
  // (a+b+c+d)^5 = sum over |alpha| = 5 of multinomial * z^alpha, at an integer point.
  const std::array<double, 4> z = {1, 2, 3, -4};
  double sum = 0;
  for (const Monomial& m : monomials(6)) {
    if (m.degree != 5) continue;
    double term = multinomial(m);
    for (std::size_t a = 0; a < 4; ++a) {
      for (int e = 0; e < m.exponent[a]; ++e) term *= z[a];
    }
    sum += term;
  }
  EXPECT_EQ(sum, 32.0);  // (1+2+3-4)^5
}

TEST(Monomials, ParentTimesVariable) {
  const std::vector<Monomial> all = monomials(8);
  for (std::size_t f = 1; f < all.size(); ++f) {
    ASSERT_LT(all[f].parent, static_cast<int>(f));
    Monomial parent = all[static_cast<std::size_t>(all[f].parent)];
    ++parent.exponent[static_cast<std::size_t>(all[f].variable)];
    EXPECT_EQ(parent.exponent, all[f].exponent);
  }
}

}  // namespace
}  // namespace m5::kernels
