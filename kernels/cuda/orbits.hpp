// The features as the tensor-core kernels make them. The four lanes of a quad run the same code on
// the four rotations of a vector: lane q sees z_q, z_(q+1), z_(q+2), z_(q+3). One representative of
// each orbit of monomials under rotation is enough: its value in lane q is that of the monomial
// whose exponents are moved by q. For P = 4 these are 20 representatives for 70 features, for P = 6
// 56 for 210.
//
// Representatives come in pairs, so chosen that a pair is the product of two others: two bf16 in a
// register, of one row (feature_pairs), or of two rows of which a lane wants one of the pair
// (slot_pairs). A slot is a representative in a rotation: 8 for each pair, 2 rotation + (0, 1).
// Some are the same feature as one before, and weigh nothing.
#pragma once

#include <span>

#include "kernels/cuda/features.hpp"
#include "kernels/cuda/mma.hpp"

namespace m5::kernels::cuda {

template <int P>
struct Orbits;
template <>
struct Orbits<2> {
  // Parent and variable of each; 0 is the constant: 1, z0, z0 z0, z0 z1, z0 z2, z0 z3.
  Node node[6] = {{}, {0, 0}, {1, 0}, {1, 1}, {1, 2}, {1, 3}};
};
template <>
struct Orbits<4> {
  Node node[20] = {{},     {0, 0}, {1, 0}, {1, 1}, {1, 2}, {4, 3}, {2, 0}, {2, 1}, {2, 2}, {2, 3},
                   {6, 0}, {6, 1}, {6, 2}, {6, 3}, {8, 2}, {9, 3}, {7, 2}, {7, 3}, {8, 3}, {5, 1}};
};
// From 20 on a pair is one before, each half times a variable.
template <>
struct Orbits<6> {
  Node node[56] = {{},      {0, 0},  {1, 0},  {1, 1},  {1, 2},  {4, 3},  {2, 0},  {2, 1},
                   {2, 2},  {2, 3},  {6, 0},  {6, 1},  {6, 2},  {6, 3},  {8, 2},  {9, 3},
                   {7, 2},  {7, 3},  {8, 3},  {5, 1},  {16, 0}, {17, 1}, {10, 2}, {11, 0},
                   {10, 0}, {11, 1}, {16, 2}, {17, 0}, {12, 2}, {13, 0}, {12, 3}, {13, 3},
                   {16, 3}, {17, 3}, {20, 0}, {21, 1}, {24, 0}, {25, 1}, {32, 3}, {33, 3},
                   {28, 2}, {29, 0}, {22, 2}, {23, 0}, {26, 3}, {27, 3}, {22, 3}, {23, 3},
                   {28, 3}, {29, 3}, {20, 3}, {21, 3}, {22, 0}, {23, 1}, {20, 2}, {21, 0}};
};
template <int P>
inline constexpr Orbits<P> kOrbits = {};
template <int P>
inline constexpr int kRepresentatives = sizeof(Orbits<P>::node) / sizeof(Node);
template <int P>
inline constexpr int kPairs = kRepresentatives<P> / 2;
template <int P>
inline constexpr int kSlots = 8 * kPairs<P>;

// The feature (features.hpp) of each slot; -1 where a slot before has the same.
template <int P>
struct SlotFeatures {
  int of[kSlots<P>] = {};
  constexpr SlotFeatures() {
    bool taken[kFeatures<P>] = {};
    for (int r = 0; r < kRepresentatives<P>; ++r) {
      for (int q = 0; q < 4; ++q) {
        int e[4] = {};
        for (int at = r; at > 0; at = kOrbits<P>.node[at].parent) {
          ++e[(kOrbits<P>.node[at].variable + q) % 4];
        }
        const int f = feature_index(P, e);
        of[r / 2 * 8 + 2 * q + r % 2] = taken[f] ? -1 : f;
        taken[f] = true;
      }
    }
    for (bool each : taken) all = all && each;
  }
  bool all = true;  // features have a slot
};
template <int P>
inline constexpr SlotFeatures<P> kSlotFeatures = {};
static_assert(kSlotFeatures<2>.all && kSlotFeatures<4>.all && kSlotFeatures<6>.all);

// The same (host).
inline std::span<const int> slot_features(int order) {
  if (order == 2) return kSlotFeatures<2>.of;
  if (order == 4) return kSlotFeatures<4>.of;
  return kSlotFeatures<6>.of;
}

// m[r] of a rotated vector.
template <int P, int r = 0>
M5_DEVICE void representatives(const float (&z)[4], float (&m)[kRepresentatives<P>]) {
  if constexpr (r < kRepresentatives<P>) {
    if constexpr (r == 0) {
      m[r] = 1;
    } else {
      constexpr Node n = kOrbits<P>.node[r];
      m[r] = n.parent == 0 ? z[n.variable] : m[n.parent] * z[n.variable];
    }
    representatives<P, r + 1>(z, m);
  }
}

// Of a sum whose derivative by m[r] is dm[r]: dz += its derivative by the vector. dm is used up.
template <int P, int r = kRepresentatives<P> - 1>
M5_DEVICE void representatives_backward(const float (&z)[4], const float (&m)[kRepresentatives<P>],
                                        float (&dm)[kRepresentatives<P>], float (&dz)[4]) {
  if constexpr (r > 0) {
    constexpr Node n = kOrbits<P>.node[r];
    dz[n.variable] = fmaf(dm[r], m[n.parent], dz[n.variable]);
    dm[n.parent] = fmaf(dm[r], z[n.variable], dm[n.parent]);
    representatives_backward<P, r - 1>(z, m, dm, dz);
  }
}

// Pairs from j on, of a pair before and variables(one of its first half, one of its second).
template <int P, int j, class Variables>
M5_DEVICE void further_pairs(unsigned (&m)[kPairs<P>], Variables variables) {
  if constexpr (j < kPairs<P>) {
    constexpr Node first = kOrbits<P>.node[2 * j], second = kOrbits<P>.node[2 * j + 1];
    static_assert(first.parent % 2 == 0 && second.parent == first.parent + 1);
    m[j] = multiply_pairs(m[first.parent / 2], variables(first.variable, second.variable));
    further_pairs<P, j + 1>(m, variables);
  }
}

// Representatives 2 j, 2 j + 1 of one rotated vector, in bf16. z01: z0, z1; z23: z2, z3.
template <int P>
M5_DEVICE void feature_pairs(unsigned z01, unsigned z23, unsigned (&m)[kPairs<P>]) {
  const unsigned z00 = firsts(z01, z01), z02_03 = multiply_pairs(z00, z23);
  m[0] = firsts(kOnes, z01);
  m[1] = multiply_pairs(z00, z01);  // z0^2, z0 z1
  if constexpr (P == 2) {
    m[2] = z02_03;
  } else {
    m[2] = multiply_pairs(z02_03, firsts(kOnes, z23));   // z0 z2, z0 z3 z2
    m[3] = multiply_pairs(z00, m[1]);                    // z0^3, z0^2 z1
    m[4] = multiply_pairs(z00, z02_03);                  // z0^2 z2, z0^2 z3
    m[5] = multiply_pairs(z00, m[3]);                    // z0^4, z0^3 z1
    m[6] = multiply_pairs(z00, m[4]);                    // z0^3 z2, z0^3 z3
    m[7] = multiply_pairs(z02_03, z02_03);               // z0^2 z2^2, z0^2 z3^2
    m[8] = multiply_pairs(seconds(m[1], m[1]), z02_03);  // z0^2 z1 z2, z0^2 z1 z3
    m[9] = multiply_pairs(seconds(m[2], m[2]), z01);     // z0^2 z2 z3, z0 z1 z2 z3
    further_pairs<P, 10>(m, [&](int first, int second) {
      const auto bytes = [](int v) { return static_cast<unsigned>(2 * v | (2 * v + 1) << 4); };
      return select_bytes(z01, z23, bytes(first) | bytes(second) << 8);
    });
  }
}

// Representative 2 j, or 2 j + 1 for the odd, of two rotated vectors, in bf16.
template <int P>
M5_DEVICE void slot_pairs(const unsigned (&z)[4], bool odd, unsigned (&m)[kPairs<P>]) {
  const unsigned z0_1 = odd ? z[1] : z[0], z2_3 = odd ? z[3] : z[2];
  const unsigned z02_03 = multiply_pairs(z[0], z2_3);
  m[0] = odd ? z[0] : kOnes;
  m[1] = multiply_pairs(z[0], z0_1);
  if constexpr (P == 2) {
    m[2] = z02_03;
  } else {
    const unsigned z023 = multiply_pairs(z02_03, odd ? z[2] : z[3]);
    m[2] = odd ? z023 : z02_03;
    m[3] = multiply_pairs(z[0], m[1]);
    m[4] = multiply_pairs(z[0], z02_03);
    m[5] = multiply_pairs(z[0], m[3]);
    m[6] = multiply_pairs(z[0], m[4]);
    m[7] = multiply_pairs(z02_03, z02_03);
    m[8] = multiply_pairs(multiply_pairs(z[0], z[1]), z02_03);
    m[9] = multiply_pairs(z023, z0_1);
    further_pairs<P, 10>(m, [&](int first, int second) { return odd ? z[second] : z[first]; });
  }
}

}  // namespace m5::kernels::cuda
