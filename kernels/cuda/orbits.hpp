// The features as the tensor-core kernels make them. The four lanes of a quad run the same code on
// the four rotations of a vector: lane q sees z_q, z_(q+1), z_(q+2), z_(q+3). One representative of
// each orbit of monomials under rotation is enough: its value in lane q is that of the monomial
// whose exponents are moved by q. For P = 4 these are 20 representatives for 70 features.
#pragma once

#include "kernels/cuda/features.hpp"
#include "kernels/cuda/mma.hpp"

namespace m5::kernels::cuda {

template <int P>
struct Orbits {
  int count = 0;
  Node node[kFeatures<P>] = {};  // parent and variable of each representative; 0 is the constant
  int exponent[kFeatures<P>][4] = {};

  constexpr Orbits() {
    count = 1;
    for (int parent = 0; parent < count; ++parent) {
      if (node[parent].degree == P) continue;
      for (int v = 0; v < 4; ++v) {
        int e[4];
        for (int a = 0; a < 4; ++a) e[a] = exponent[parent][a] + (a == v);
        if (known(e)) continue;
        for (int a = 0; a < 4; ++a) exponent[count][a] = e[a];
        node[count] = {parent, v, node[parent].degree + 1};
        ++count;
      }
    }
  }

  // The feature (features.hpp) that representative r is in lane q; -1 where a lane
  // before q has the same.
  constexpr int feature(int r, int q) const {
    for (int s = 0; s < q; ++s) {
      bool same = true;
      for (int a = 0; a < 4; ++a) same = same && moved(r, q, a) == moved(r, s, a);
      if (same) return -1;
    }
    const int e[4] = {moved(r, q, 0), moved(r, q, 1), moved(r, q, 2), moved(r, q, 3)};
    return feature_index(P, e);
  }

 private:
  constexpr int moved(int r, int q, int a) const { return exponent[r][(a + 4 - q) % 4]; }
  constexpr bool known(const int (&e)[4]) const {
    for (int r = 0; r < count; ++r) {
      for (int q = 0; q < 4; ++q) {
        bool same = true;
        for (int a = 0; a < 4; ++a) same = same && e[a] == moved(r, q, a);
        if (same) return true;
      }
    }
    return false;
  }
};
template <int P>
inline constexpr Orbits<P> kOrbits = {};
template <int P>
inline constexpr int kRepresentatives = kOrbits<P>.count;
static_assert(kRepresentatives<2> == 5 && kRepresentatives<4> == 20);

// features[r][q] as above, for kernels.
template <int P>
struct Slots {
  short feature[kRepresentatives<P>][4] = {};
  constexpr Slots() {
    for (int r = 0; r < kRepresentatives<P>; ++r) {
      for (int q = 0; q < 4; ++q) feature[r][q] = static_cast<short>(kOrbits<P>.feature(r, q));
    }
  }
};

// m[r] of a rotated vector.
template <int P, int r = 0>
M5_DEVICE void representatives(const float (&x)[4], float (&m)[kRepresentatives<P>]) {
  if constexpr (r < kRepresentatives<P>) {
    if constexpr (r == 0) {
      m[r] = 1;
    } else {
      constexpr Node n = kOrbits<P>.node[r];
      m[r] = n.parent == 0 ? x[n.variable] : m[n.parent] * x[n.variable];
    }
    representatives<P, r + 1>(x, m);
  }
}

// The same of two vectors at a time, in bf16.
template <int P, int r = 0>
M5_DEVICE void representative_pairs(const unsigned (&x)[4], unsigned (&m)[kRepresentatives<P>]) {
  if constexpr (r < kRepresentatives<P>) {
    if constexpr (r == 0) {
      m[r] = kOnes;
    } else {
      constexpr Node n = kOrbits<P>.node[r];
      m[r] = n.parent == 0 ? x[n.variable] : multiply_pairs(m[n.parent], x[n.variable]);
    }
    representative_pairs<P, r + 1>(x, m);
  }
}

// Of a sum whose derivative by m[r] is dm[r]: dx += its derivative by the vector. dm is used up.
template <int P, int r = kRepresentatives<P> - 1>
M5_DEVICE void representatives_backward(const float (&x)[4], const float (&m)[kRepresentatives<P>],
                                        float (&dm)[kRepresentatives<P>], float (&dx)[4]) {
  if constexpr (r > 0) {
    constexpr Node n = kOrbits<P>.node[r];
    dx[n.variable] = fmaf(dm[r], m[n.parent], dx[n.variable]);
    dm[n.parent] = fmaf(dm[r], x[n.variable], dm[n.parent]);
    representatives_backward<P, r - 1>(x, m, dm, dx);
  }
}

}  // namespace m5::kernels::cuda
