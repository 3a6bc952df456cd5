// The monomials of degree <= P in 4 variables as the kernels walk them: a tree, each node its
// parent times a variable that is not before the parent's last one; depth first, so that a walk
// holds one value a degree. State slices (attention.hpp) lie in the order of this walk.
#pragma once

#include <array>
#include <vector>

#include "kernels/cuda/gpu.hpp"

namespace m5::kernels::cuda {

// C(n + k, k)
constexpr int choose_with(int n, int k) {
  int value = 1;
  for (int i = 1; i <= k; ++i) value = value * (n + i) / i;
  return value;
}

template <int P>
inline constexpr int kFeatures = choose_with(P, 4);

// Nodes of the subtree of a node of this degree whose last variable is v.
constexpr int subtree(int order, int degree, int v) { return choose_with(order - degree, 4 - v); }

// How far behind its parent (of this degree, last variable v) the child by variable w lies.
constexpr int child_offset(int order, int degree, int v, int w) {
  int offset = 1;
  for (int before = v; before < w; ++before) offset += subtree(order, degree + 1, before);
  return offset;
}

struct Node {
  int parent = -1, variable = 0, degree = 0;
};

template <int P>
struct Tree {
  Node node[kFeatures<P>] = {};
  constexpr Tree() { visit(0, 0, 0); }

 private:
  constexpr void visit(int f, int degree, int v) {
    if (degree == P) return;
    for (int w = v; w < 4; ++w) {
      const int child = f + child_offset(P, degree, v, w);
      node[child] = {f, w, degree + 1};
      visit(child, degree + 1, w);
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

// The exponents of the features, in the order of the walk (host).
inline std::vector<std::array<int, 4>> walk_exponents(int order) {
  std::vector<std::array<int, 4>> all(1, std::array<int, 4>{});
  const auto visit = [&](const auto& self, std::array<int, 4> at, int degree, int v) -> void {
    if (degree == order) return;
    for (int w = v; w < 4; ++w) {
      std::array<int, 4> child = at;
      ++child[static_cast<std::size_t>(w)];
      all.push_back(child);
      self(self, child, degree + 1, w);
    }
  };
  visit(visit, {}, 0, 0);
  return all;
}

}  // namespace m5::kernels::cuda
