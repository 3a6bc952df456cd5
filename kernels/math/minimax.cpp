#include "kernels/math/minimax.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <string>

#include "m5/error.hpp"

namespace m5::kernels {
namespace {

using Real = long double;

// P(x) / exp(x) - 1
Real relative_error(const std::vector<Real>& coefficients, Real x) {
  Real value = 0;
  for (std::size_t n = coefficients.size(); n-- > 0;) value = value * x + coefficients[n];
  return value * std::exp(-x) - 1;
}

struct Extremum {
  Real x, error;
};

// The greatest |error| of every run of equal sign, from left to right: a grid dense at the ends
// like the extrema themselves, then a golden-section search around the best grid point.
std::vector<Extremum> alternating_extrema(const std::vector<Real>& coefficients, Real bound) {
  constexpr int kGrid = 4000;
  const auto grid = [&](int i) {
    return -bound * std::cos(std::numbers::pi_v<Real> * static_cast<Real>(i) / kGrid);
  };
  std::vector<Extremum> extrema;
  std::vector<int> at;
  for (int i = 0; i <= kGrid; ++i) {
    const Extremum here = {grid(i), relative_error(coefficients, grid(i))};
    const bool new_run = extrema.empty() || (here.error < 0) != (extrema.back().error < 0);
    if (new_run) {
      extrema.push_back(here);
      at.push_back(i);
    } else if (std::abs(here.error) > std::abs(extrema.back().error)) {
      extrema.back() = here;
      at.back() = i;
    }
  }
  for (std::size_t e = 0; e < extrema.size(); ++e) {
    Real low = grid(std::max(at[e] - 1, 0)), high = grid(std::min(at[e] + 1, kGrid));
    const Real ratio = (std::sqrt(Real(5)) - 1) / 2;
    for (int step = 0; step < 60; ++step) {
      const Real left = high - ratio * (high - low), right = low + ratio * (high - low);
      if (std::abs(relative_error(coefficients, left)) >
          std::abs(relative_error(coefficients, right))) {
        high = right;
      } else {
        low = left;
      }
    }
    const Extremum refined = {(low + high) / 2, relative_error(coefficients, (low + high) / 2)};
    if (std::abs(refined.error) > std::abs(extrema[e].error)) extrema[e] = refined;
  }
  return extrema;
}

// Gaussian elimination with row pivoting; a [n][n + 1], the last column is the right side.
std::vector<Real> solve(std::vector<std::vector<Real>> a) {
  const std::size_t n = a.size();
  for (std::size_t k = 0; k < n; ++k) {
    std::size_t pivot = k;
    for (std::size_t i = k + 1; i < n; ++i) {
      if (std::abs(a[i][k]) > std::abs(a[pivot][k])) pivot = i;
    }
    std::swap(a[k], a[pivot]);
    for (std::size_t i = k + 1; i < n; ++i) {
      const Real factor = a[i][k] / a[k][k];
      for (std::size_t j = k; j <= n; ++j) a[i][j] -= factor * a[k][j];
    }
  }
  std::vector<Real> x(n);
  for (std::size_t k = n; k-- > 0;) {
    Real sum = a[k][n];
    for (std::size_t j = k + 1; j < n; ++j) sum -= a[k][j] * x[j];
    x[k] = sum / a[k][k];
  }
  return x;
}

}  // namespace

std::vector<double> minimax_exp(int order, double bound) {
  if (order < 2 || order > 8 || order % 2 != 0 || !(bound > 0 && bound <= 8)) {
    throw Error(ErrorKind::kModel, "no polynomial of order " + std::to_string(order) +
                                       " on the bound " + std::to_string(bound) +
                                       ": order must be 2, 4, 6 or 8 and 0 < bound <= 8");
  }
  const Real R = bound;
  // On tiny bounds even the Taylor polynomial is exact to less than a double can tell, and the
  // exchange below would fit the rounding.
  Real taylor_error = 1;
  std::vector<double> taylor = {1};
  for (int n = 1; n <= order; ++n) taylor.push_back(taylor.back() / n);
  for (int n = 1; n <= order + 1; ++n) taylor_error *= R / static_cast<Real>(n);
  if (taylor_error < 1e-16L) return taylor;

  const auto size = static_cast<std::size_t>(order) + 2;
  std::vector<Real> points(size);  // the alternation set, Chebyshev's to begin with
  for (std::size_t i = 0; i < size; ++i) {
    points[i] = -R * std::cos(std::numbers::pi_v<Real> * static_cast<Real>(i) /
                              static_cast<Real>(size - 1));
  }

  std::vector<Real> coefficients(size - 1);
  for (int iteration = 0; iteration < 100; ++iteration) {
    // P(x_i) exp(-x_i) - (-1)^i level = 1, in powers of x / R for the sake of conditioning.
    std::vector<std::vector<Real>> system(size, std::vector<Real>(size + 1));
    for (std::size_t i = 0; i < size; ++i) {
      Real power = std::exp(-points[i]);
      for (std::size_t n = 0; n + 1 < size; ++n, power *= points[i] / R) system[i][n] = power;
      system[i][size - 1] = i % 2 == 0 ? -1 : 1;
      system[i][size] = 1;
    }
    const std::vector<Real> solution = solve(std::move(system));
    Real scale = 1;
    for (std::size_t n = 0; n + 1 < size; ++n, scale *= R) coefficients[n] = solution[n] / scale;
    const Real level = std::abs(solution[size - 1]);

    // Exchange all points at once for the extrema of the new error.
    const std::vector<Extremum> extrema = alternating_extrema(coefficients, R);
    Real greatest = 0;
    for (const Extremum& e : extrema) greatest = std::max(greatest, std::abs(e.error));
    // The second term is the rounding of long double, below which no exchange helps.
    if (greatest - level <= 1e-12L * level + 1e-18L) break;
    if (extrema.size() < size) break;
    // More runs than points appear only through rounding: keep the window with the greatest error.
    std::size_t first = 0;
    for (std::size_t e = 0; e + size <= extrema.size(); ++e) {
      const auto weakest = [&](std::size_t begin) {
        Real least = std::abs(extrema[begin].error);
        for (std::size_t i = begin; i < begin + size; ++i) {
          least = std::min(least, std::abs(extrema[i].error));
        }
        return least;
      };
      if (weakest(e) > weakest(first)) first = e;
    }
    for (std::size_t i = 0; i < size; ++i) points[i] = extrema[first + i].x;
  }
  return {coefficients.begin(), coefficients.end()};
}

double relative_error_to_exp(const std::vector<double>& coefficients, double bound) {
  const std::vector<Real> exact(coefficients.begin(), coefficients.end());
  Real greatest = 0;
  for (const Extremum& e : alternating_extrema(exact, bound)) {
    greatest = std::max(greatest, std::abs(e.error));
  }
  return static_cast<double>(greatest);
}

}  // namespace m5::kernels
