// Matrix products of row-major arrays: cuBLASLt (products.cu), plain loops in the emulation.
// Operands are E (float: in true fp32, bf16), sums fp32. W [out][in].
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <type_traits>

#include "kernels/cuda/device.hpp"

namespace m5::kernels::cuda {

// A pointer that may be nullptr.
template <class E>
using Maybe = const std::type_identity_t<E>*;

// Bytes that every pointer of a product of such columns is a multiple of: rows may begin with any
// of their array, and weights and bias at any multiple of `aligned` elements.
inline std::int64_t product_alignment(int in, int out, std::int64_t aligned) {
  const std::int64_t all = in | out | aligned;
  return std::min<std::int64_t>(256, (all & -all) * 2);
}

// Rows whose sum backward_weight takes in fp32; sums of more are sums in double of its parts. Where
// rows are alike, in fp32 8,192 in one chain are 6e-5 off; of bf16 a tensor core adds 8 or 16 at
// once, but may cut them off: 32,768 are less off than operands of bf16, 2e-3 (NOTES.md).
template <class E>
inline constexpr std::int64_t kProductRows = 1024;
template <>
inline constexpr std::int64_t kProductRows<bf16> = 32768;
// Of one call there is room for so many parts.
inline constexpr std::int64_t kProductParts = 16;
template <class E>
std::int64_t product_parts(std::int64_t rows) {
  return ceil_div(rows, kProductRows<E>);
}

class Products {
 public:
  // most_rows: n of all calls, at most. An algorithm is chosen for so many and taken for every n,
  // so that the bits of a row do not depend on n; but for an n that it does not take, which has one
  // of its own. Takes workspace_bytes() on the device.
  // measured: see CudaSetup::measured_products.
  // aligned: see product_alignment; 128 where all arrays begin where their memory does.
  Products(Device& device, std::int64_t most_rows, bool measured = false,
           std::int64_t aligned = 128);
  ~Products();
  static std::size_t workspace_bytes();

  // y[n][out] = x[n][in] W^T + bias + add; bias, add may be null; add may be y.
  template <class E>
  void forward(std::int64_t n, int in, int out, const E* x, const E* w, Maybe<E> bias, Maybe<E> add,
               E* y);
  // y = gelu(k), k = x W^T + bias, and keep = k where it is not null.
  template <class E>
  void forward_gelu(std::int64_t n, int in, int out, const E* x, const E* w, const E* bias,
                    std::type_identity_t<E>* keep, E* y);
  // dx[n][in] = dy[n][out] W; with keep [n][in] not null, times gelu'(keep). add: to what dx was,
  // without keep.
  template <class E>
  void backward_input(std::int64_t n, int in, int out, const E* dy, const E* w, Maybe<E> keep,
                      E* dx, bool add = false);
  // dw[part][out][in] = dy[n][out]^T x[n][in] of the rows of each of product_parts<E>(n).
  template <class E>
  void backward_weight(std::int64_t n, int in, int out, const E* x, const E* dy, float* dw);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace m5::kernels::cuda
