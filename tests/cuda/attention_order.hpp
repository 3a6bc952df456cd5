// How the attention's rows and states lie on the device, and how kernels/backend.hpp has them.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "kernels/backend.hpp"
#include "kernels/cuda/attention.hpp"
#include "kernels/cuda/features.hpp"
#include "kernels/cuda/orbits.hpp"
#include "kernels/cuda/slab.hpp"
#include "kernels/math/monomials.hpp"

namespace m5::kernels::cuda {

inline AttentionSize size_of(const AttentionShape& shape, bool tensor_cores) {
  AttentionSize size;
  size.heads = shape.heads;
  size.value_dim = shape.value_dim;
  size.order = shape.order;
  size.features = shape.features;
  size.bound = static_cast<float>(shape.bound);
  size.tensor_cores = tensor_cores;
  return size;
}

// Rows whose columns are blocks of so many components of all heads: to the device's order, or back.
inline std::vector<double> reordered(const AttentionSize& size, const std::vector<double>& rows,
                                     const std::vector<int>& components, bool to_device) {
  if (!size.tensor_cores) return rows;
  std::vector<double> moved(rows.size());
  for (std::int64_t at = 0; at < static_cast<std::int64_t>(rows.size());) {
    for (const int c : components) {
      const Region block{at, std::int64_t{c} * size.heads, c, size.heads};
      for (std::int64_t k = 0; k < block.size; ++k) {
        const auto own = static_cast<std::size_t>(at + k),
                   device = static_cast<std::size_t>(at + block.on_device(k));
        to_device ? moved[device] = rows[own] : moved[own] = rows[device];
      }
      at += block.size;
    }
  }
  return moved;
}

// Where a state of the device has element [f][c][h] of one of kernels/backend.hpp; each batch of
// columns has a place for the sums of weights.
inline std::vector<std::size_t> state_places(const AttentionSize& size, int batch) {
  const int V = size.value_dim;
  std::vector<int> term(static_cast<std::size_t>(size.features));  // of the device's features
  for (std::size_t f = 0; f < term.size(); ++f) term[f] = static_cast<int>(f);
  if (size.tensor_cores) {
    const auto slots = slot_features(size.order);
    for (std::size_t t = 0; t < slots.size(); ++t) {
      if (slots[t] >= 0) term[static_cast<std::size_t>(slots[t])] = static_cast<int>(t);
    }
  }
  std::vector<std::size_t> places;
  for (const Monomial& m : monomials(size.order)) {
    const auto& e = m.exponent;
    const int f = feature_index(size.order, {e[0], e[1], e[2], e[3]});
    for (int c = 0; c <= V; ++c) {
      for (int h = 0; h < size.heads; ++h) {
        const int slice = h / kHeads * size.batches() + (c == V ? batch : c / kValues);
        const int column = c == V ? kValues : c % kValues, t = term[static_cast<std::size_t>(f)];
        const int at = size.tensor_cores ? (h % kHeads * kColumns + column) * size.terms() + t
                                         : (t * kColumns + column) * kHeads + h % kHeads;
        places.push_back(static_cast<std::size_t>(slice * size.slice() + at));
      }
    }
  }
  return places;
}

// batches: how many have the sums of weights. What the device has besides is 0.
template <class T>
std::vector<double> state_to_device(const AttentionSize& size, int batches, const T* state) {
  std::vector<double> on_device(static_cast<std::size_t>(size.state()));
  for (int b = 0; b < batches; ++b) {
    for (const std::size_t place : state_places(size, b)) on_device[place] = *state++;
    state -= std::int64_t{size.features} * (size.value_dim + 1) * size.heads;
  }
  return on_device;
}
// NaN where sums of weights differ.
inline std::vector<double> state_of_device(const AttentionSize& size, int batches,
                                           const double* on_device) {
  std::vector<double> state;
  for (const std::size_t place : state_places(size, 0)) state.push_back(on_device[place]);
  for (int b = 1; b < batches; ++b) {
    const std::vector<std::size_t> places = state_places(size, b);
    for (std::size_t i = 0; i < places.size(); ++i) {
      if (on_device[places[i]] != state[i]) state[i] = std::nan("");
    }
  }
  return state;
}

}  // namespace m5::kernels::cuda
