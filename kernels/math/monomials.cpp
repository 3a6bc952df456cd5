#include "kernels/math/monomials.hpp"

namespace m5::kernels {

std::vector<Monomial> monomials(int order) {
  std::vector<Monomial> all;
  all.push_back({{0, 0, 0, 0}, 0, -1, 0});
  int begin = 0;
  for (int degree = 1; degree <= order; ++degree) {
    const int end = static_cast<int>(all.size());
    for (int parent = begin; parent < end; ++parent) {
      // Appending only variables at or after the parent's last one makes each monomial once.
      const int last = all[static_cast<std::size_t>(parent)].degree == 0
                           ? 0
                           : all[static_cast<std::size_t>(parent)].variable;
      for (int variable = last; variable < 4; ++variable) {
        Monomial m = all[static_cast<std::size_t>(parent)];
        ++m.exponent[static_cast<std::size_t>(variable)];
        m.degree = degree;
        m.parent = parent;
        m.variable = variable;
        all.push_back(m);
      }
    }
    begin = end;
  }
  return all;
}

double multinomial(const Monomial& m) {
  double value = 1;
  int n = 0;
  for (int e : m.exponent) {
    for (int i = 1; i <= e; ++i) value = value * ++n / i;
  }
  return value;
}

std::vector<double> feature_weights(const std::vector<double>& polynomial) {
  std::vector<double> weights;
  for (const Monomial& m : monomials(static_cast<int>(polynomial.size()) - 1)) {
    weights.push_back(polynomial[static_cast<std::size_t>(m.degree)] * multinomial(m));
  }
  return weights;
}

}  // namespace m5::kernels
