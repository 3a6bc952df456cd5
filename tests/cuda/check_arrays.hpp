// Arrays of numbers on a device, and how far two are apart: for the checks of kernels.
#pragma once

#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "check.hpp"
#include "kernels/backend.hpp"
#include "kernels/cuda/device.hpp"
#include "kernels/cuda/products.hpp"
#include "kernels/cuda/slab.hpp"

namespace m5::kernels::cuda {

using Values = std::vector<double>;

// Numbers that are exactly bf16, so that both types compute from the same operands.
inline Values random_values(std::int64_t count, unsigned seed, double scale = 1) {
  std::mt19937_64 random(seed);
  Values values(static_cast<std::size_t>(count));
  for (double& v : values) {
    const double uniform = static_cast<double>(random() >> 11) * 0x1p-53;
    v = static_cast<double>(
        to_float(from_float<bf16>(static_cast<float>(scale * (2 * uniform - 1)))));
  }
  return values;
}

template <class E>
Array<E> put(Device& device, const Values& values) {
  std::vector<E> typed(values.size());
  std::transform(values.begin(), values.end(), typed.begin(),
                 [](double v) { return from_float<E>(static_cast<float>(v)); });
  Array<E> array(device, static_cast<std::int64_t>(values.size()), "a check");
  device.upload(array.data(), typed.data(), array.bytes());
  return array;
}

template <class E>
Values get(Device& device, const Array<E>& array) {
  std::vector<E> typed(array.size());
  device.download(typed.data(), array.data(), array.bytes());
  Values values(array.size());
  std::transform(typed.begin(), typed.end(), values.begin(),
                 [](E v) { return static_cast<double>(to_float(v)); });
  return values;
}
// The same of numbers as they are.
template <class T>
Array<T> put_typed(Device& device, const std::vector<T>& values) {
  Array<T> array(device, static_cast<std::int64_t>(values.size()), "a check");
  device.upload(array.data(), values.data(), array.bytes());
  return array;
}
template <class T>
std::vector<T> get_typed(Device& device, const Array<T>& array) {
  std::vector<T> values(array.size());
  device.download(values.data(), array.data(), array.bytes());
  return values;
}
inline Values get(Device& device, const Array<double>& array) { return get_typed(device, array); }
// An array that holds no number yet.
template <class E>
Array<E> room(Device& device, std::int64_t count) {
  return put<E>(device, Values(static_cast<std::size_t>(count), std::nan("")));
}

// sum += the first numbers of dy^T x, as add_product of backward.cu, in one call: up to
// kProductParts.
template <class E>
void add_product(Device& device, Products& products, std::int64_t n, int in, int out,
                 const Array<E>& x, const Array<E>& dy, Array<double>& sum) {
  const std::int64_t parts = product_parts<E>(n), size = std::int64_t{in} * out;
  auto product = room<float>(device, parts * size);
  products.backward_weight<E>(n, in, out, x.data(), dy.data(), product.data());
  const auto count = static_cast<std::int64_t>(sum.size());
  const auto regions = put_typed(device, std::vector<Region>{{0, count}});
  add_gradient(device, regions, 0, count, parts, size, product.data(), sum.data());
}

inline double difference(const Values& actual, const Values& expected) {
  double greatest = 0, worst = 0;
  for (double e : expected) greatest = std::max(greatest, std::abs(e));
  if (actual.size() < expected.size()) return INFINITY;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const double d = std::abs(actual[i] - expected[i]);
    if (!(d <= worst)) worst = d;  // NaN stays
    if (std::isnan(worst)) return worst;
  }
  return greatest > 0 ? worst / greatest : worst;
}

// What the checks of one type have in common.
template <class E>
class CheckList {
 public:
  CheckList(Device& device, std::vector<Check>& checks) : device_(device), checks_(checks) {}

 protected:
  static constexpr bool kNarrow = !std::is_same_v<E, float>;
  // Of one rounding of a result, and of sums of rounded values.
  static constexpr double kStored = kNarrow ? 0x1p-8 : 3e-6;
  static constexpr double kSummed = 3e-6;

  void check(const std::string& name, const Values& actual, const Values& expected,
             double tolerance) {
    checks_.push_back(
        {name + (kNarrow ? ", bf16" : ", fp32"), difference(actual, expected), tolerance});
  }
  Array<E> operand(const Values& v) { return put<E>(device_, v); }
  Array<float> wide(const Values& v) { return put<float>(device_, v); }

  Device& device_;
  std::vector<Check>& checks_;
  const std::unique_ptr<Backend<double>> ref_ = make_ref_backend<double>();
};

}  // namespace m5::kernels::cuda
