// Matrix products of row-major arrays: cuBLASLt (products.cu), plain loops in the emulation.
// Operands are E (float: in true fp32, bf16), sums fp32. W [out][in].
#pragma once

#include <cstdint>
#include <memory>

#include "kernels/cuda/device.hpp"

namespace m5::kernels::cuda {

class Products {
 public:
  // most_rows: n of all calls, at most; algorithms are chosen for it, so that the rows of a product
  // do not depend on how many there are. Takes workspace_bytes() on the device.
  Products(Device& device, std::int64_t most_rows);
  ~Products();
  static std::size_t workspace_bytes();

  // y[n][out] = x[n][in] W^T + bias + add; bias, add may be null; add may be y.
  template <class E, class Y>
  void forward(std::int64_t n, int in, int out, const E* x, const E* w, const E* bias, const Y* add,
               Y* y);
  // y = gelu(k), k = x W^T + bias, and keep = k where it is not null.
  template <class E>
  void forward_gelu(std::int64_t n, int in, int out, const E* x, const E* w, const E* bias, E* keep,
                    E* y);
  // dx[n][in] = dy[n][out] W; with keep [n][in] not null, times gelu'(keep).
  template <class E>
  void backward_input(std::int64_t n, int in, int out, const E* dy, const E* w, const E* keep,
                      E* dx);
  // dw[out][in] += dy[n][out]^T x[n][in].
  template <class E>
  void backward_weight(std::int64_t n, int in, int out, const E* x, const E* dy, float* dw);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace m5::kernels::cuda
