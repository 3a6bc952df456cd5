#include <algorithm>
#include <array>

#include "kernels/cpu/simd.hpp"
#include "kernels/math/monomials.hpp"

namespace m5::kernels::simd {

const ProductTable& product_table(int order) {
  static const auto make = [](int p) {
    const std::vector<Monomial> all = monomials(p), half = monomials(p / 2);
    ProductTable table;
    table.half_features = static_cast<int>(half.size());
    for (const Monomial& m : half) {
      table.parent.push_back(m.parent);
      table.variable.push_back(m.variable);
    }
    const auto find = [&](const std::array<int, 4>& exponent) {
      const auto at = std::find_if(half.begin(), half.end(),
                                   [&](const Monomial& m) { return m.exponent == exponent; });
      return static_cast<int>(at - half.begin());
    };
    for (const Monomial& m : all) {
      std::array<int, 4> left = {}, right = m.exponent;
      for (std::size_t a = 0, degree = 0; a < 4; ++a) {
        while (right[a] > 0 && degree < static_cast<std::size_t>(p) / 2) {
          ++left[a];
          --right[a];
          ++degree;
        }
      }
      table.left.push_back(find(left));
      table.right.push_back(find(right));
    }
    return table;
  };
  static const ProductTable tables[4] = {make(2), make(4), make(6), make(8)};
  return tables[order / 2 - 1];
}

float* Scratch::floats(std::size_t count) {
  constexpr std::size_t kAlign = 64;
  if (data_.size() < count + kAlign / sizeof(float)) data_.resize(count + kAlign / sizeof(float));
  const auto address = reinterpret_cast<std::uintptr_t>(data_.data());
  return data_.data() + (kAlign - address % kAlign) % kAlign / sizeof(float);
}

}  // namespace m5::kernels::simd
