// The monomials of degree <= p in 4 variables: the order of features everywhere in m5.
#pragma once

#include <array>
#include <vector>

namespace m5::kernels {

struct Monomial {
  std::array<int, 4> exponent;  // alpha
  int degree;                   // |alpha|
  int parent;                   // feature f' with m_f = m_f' * z[variable]; -1 for the constant
  int variable;
};

// By degree, then lexicographic with earlier variables first: 1, z0, z1, z2, z3, z0z0, z0z1, ...
// A parent always precedes its children.
std::vector<Monomial> monomials(int order);

// |alpha|! / alpha!
double multinomial(const Monomial& m);

// c_|alpha| |alpha|! / alpha! of every feature: what attention_scale multiplies a state by.
std::vector<double> feature_weights(const std::vector<double>& polynomial);

}  // namespace m5::kernels
