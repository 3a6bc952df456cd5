// The polynomial that stands for exp in the attention.
#pragma once

#include <vector>

namespace m5::kernels {

// c_0..c_order of the polynomial P of least max |P(x)/exp(x) - 1| over [-bound, bound] (Remez
// exchange in long double). order even, 2..8; 0 < bound <= 8. Deterministic.
std::vector<double> minimax_exp(int order, double bound);

// max |P(x)/exp(x) - 1| over [-bound, bound], from a dense grid refined at its extrema.
double relative_error_to_exp(const std::vector<double>& coefficients, double bound);

}  // namespace m5::kernels
