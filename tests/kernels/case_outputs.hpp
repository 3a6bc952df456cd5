// What a case of the table puts out on a backend, and how far that may be from `ref`.
//
// Tolerance. Every output, as a vector: |y - y_ref| <= (3 e + 4 * 2^-23) |y_ref|, where y_ref is
// `ref` in double on the same numbers and e the relative error that `ref` makes in float, summing
// in the plain order. So a backend may round three times as much as the plain loops, no more; the
// second term is for cases where those make no error at all.
#pragma once

#include <cmath>
#include <map>
#include <stdexcept>
#include <vector>

#include "kernels/cases.hpp"

namespace m5::kernels {

using Outputs = std::map<int, std::vector<double>>;  // by slot

template <class T>
Outputs run(const Case& c, Backend<T>& backend, const Values& values, int misalign = 0) {
  Memory<T> memory(c, backend, values, misalign);
  c.prepare(backend, memory)();
  if (!memory.fences_stand()) throw std::runtime_error(c.name() + ": wrote outside its arrays");
  Outputs outputs;
  for (std::size_t s = 0; s < c.slots.size(); ++s) {
    if (c.slots[s].output) outputs[static_cast<int>(s)] = memory.values(static_cast<int>(s));
  }
  return outputs;
}

inline double relative_error(const std::vector<double>& y, const std::vector<double>& expected) {
  double error = 0, size = 0;
  for (std::size_t i = 0; i < y.size(); ++i) {
    error += (y[i] - expected[i]) * (y[i] - expected[i]);
    size += expected[i] * expected[i];
  }
  return size > 0 ? std::sqrt(error / size) : std::sqrt(error);
}

// rounded: of `ref` in float.
inline double allowed_error(const std::vector<double>& rounded,
                            const std::vector<double>& expected) {
  return 3 * relative_error(rounded, expected) + 0x1p-21;
}

}  // namespace m5::kernels
