// Kernels on slabs of parameters, which know nothing of models: the squared norm, AdamW, the
// average. Formulas: kernels/backend.hpp and kernels/update.hpp. All arithmetic is
// in double, as on the host; what is stored is fp32.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/cuda/device.hpp"
#include "kernels/update.hpp"

namespace m5::kernels::cuda {

// Numbers whose squares are one partial sum, and how many of those there are.
inline constexpr int kSquares = 8192;
inline std::int64_t square_parts(std::int64_t count) { return ceil_div(count, kSquares); }
// sum[0] = the sum of x[i]^2, in an order that `count` decides. partial [square_parts(count)].
// T: float or double.
template <class T>
void squared_norm(Device& device, std::int64_t count, const T* x, double* partial, double* sum);

// What a block of threads updates by AdamW.
struct Stretch {
  std::int64_t offset = 0;
  std::int32_t count = 0;
  std::int32_t decay = 0;
  double factor = 1;  // of the learning rate
};
inline constexpr std::int64_t kStretch = 4096;
// Of the parts that are AdamW's.
std::vector<Stretch> stretches_of(std::span<const UpdatePart> parts);
// Sets *not_finite where a number that is stored is not finite; leaves it as it is elsewhere.
void adamw(Device& device, std::int64_t stretches, const Stretch* which, const UpdateStep& step,
           const double* gradient, float* m, float* v, float* p, int* not_finite);

// mean += gain * (x - mean).
void move_average(Device& device, std::int64_t count, double gain, const float* x, float* mean);

M5_BOTH bool is_finite(float x) { return fabsf(x) <= 3.402823466e38f; }

}  // namespace m5::kernels::cuda
