// Matrix products by oneDNN 2.x or 3.x: single-threaded calls on packed weights.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "kernels/backend.hpp"

namespace m5::kernels {

class OneDnnLinear : public Linear<float> {
 public:
  OneDnnLinear(int in, int out, bool backward, bool bf16);
  ~OneDnnLinear() override;

  // Rows as in Backend::linear: up to the next multiple of kRowStep.
  void pack(const float* weight, const float* bias);  // W[out][in]
  void forward(int n, const float* x, float* y, Backend<float>::Then then) const;
  void backward_input(int n, const float* dy, float* dx, bool add) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// d_weight[out][in] += dy[n][out]^T x[n][in]; with bf16 of operands rounded to bf16, fp32 sums.
void add_outer_product(int in, int out, int n, const float* x, const float* dy, float* d_weight,
                       bool bf16);

// While one lives, oneDNN uses the calling thread alone. Then the thread's number of OpenMP threads
// is what it was: it may be the caller's own.
class OneThread {
 public:
  OneThread();
  ~OneThread();
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;

 private:
  int before_;
};
// Caps the instruction set to match a forced one (before the first product).
void cap_onednn_isa(const std::string& highway_target);
bool onednn_has_native_bf16();

}  // namespace m5::kernels
