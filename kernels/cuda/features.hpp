// The monomials z^e of degree <= P in 4 variables as the kernels count them: in the order of the
// loops over e_0, e_1, e_2, e_3, each from 0 to what the ones before leave of P. State slices
// (attention.hpp) lie in this order.
#pragma once

#include <array>
#include <vector>

#include "kernels/cuda/gpu.hpp"

namespace m5::kernels::cuda {

// How many have `variables` variables and at most this degree.
M5_BOTH constexpr int monomials_up_to(int degree, int variables) {
  int value = 1;
  for (int i = 1; i <= variables; ++i) value = value * (degree + i) / i;
  return value;
}

template <int P>
inline constexpr int kFeatures = monomials_up_to(P, 4);

M5_BOTH constexpr int feature_index(int order, const int (&e)[4]) {
  int index = 0, left = order;
  for (int a = 0; a < 4; ++a) {
    for (int less = 0; less < e[a]; ++less) index += monomials_up_to(left - less, 3 - a);
    left -= e[a];
  }
  return index;
}

// A monomial is its parent times a variable: the last one that it has.
struct Node {
  int parent = -1, variable = 0;
};

template <int P>
struct Tree {
  Node node[kFeatures<P>] = {};
  constexpr Tree() {
    int e[4] = {}, f = 0;
    for (e[0] = 0; e[0] <= P; ++e[0]) {
      for (e[1] = 0; e[0] + e[1] <= P; ++e[1]) {
        for (e[2] = 0; e[0] + e[1] + e[2] <= P; ++e[2]) {
          for (e[3] = 0; e[0] + e[1] + e[2] + e[3] <= P; ++e[3], ++f) {
            int last = 3;
            while (last > 0 && e[last] == 0) --last;
            if (f == 0) continue;
            --e[last];
            node[f] = {feature_index(P, e), last};
            ++e[last];
          }
        }
      }
    }
  }
};
template <int P>
inline constexpr Tree<P> kTree = {};

// m_f(z); the compiler shares what several features have in common.
template <int P, int f>
M5_DEVICE float monomial(const float (&z)[4]) {
  if constexpr (f == 0) {
    return 1;
  } else {
    constexpr Node n = kTree<P>.node[f];
    if constexpr (n.parent == 0) {
      return z[n.variable];
    } else {
      return monomial<P, n.parent>(z) * z[n.variable];
    }
  }
}

// The exponents of the features, in order (host).
inline std::vector<std::array<int, 4>> feature_exponents(int order) {
  std::vector<std::array<int, 4>> all;
  for (int a = 0; a <= order; ++a) {
    for (int b = 0; a + b <= order; ++b) {
      for (int c = 0; a + b + c <= order; ++c) {
        for (int d = 0; a + b + c + d <= order; ++d) all.push_back({a, b, c, d});
      }
    }
  }
  return all;
}

}  // namespace m5::kernels::cuda
