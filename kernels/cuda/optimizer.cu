#include "kernels/cuda/optimizer.hpp"

#include <algorithm>

namespace m5::kernels::cuda {
namespace {

constexpr int kThreads = 256;

// Each thread of a block adds every kThreads-th number of the block's `each`, then halves of the
// block are added until one number is left.
template <class T, bool kSquared>
M5_KERNEL M5_BOUNDS(kThreads, 4)
    sum_kernel(std::int64_t count, std::int64_t each, const T* x, double* sums) {
  double* shared = shared_memory<double>();  // [threads]
  const int thread = static_cast<int>(threadIdx.x);
  const std::int64_t first = std::int64_t{blockIdx.x} * each;
  const std::int64_t end = first + each < count ? first + each : count;
  double sum = 0;
#pragma unroll 4
  for (std::int64_t i = first + thread; i < end; i += kThreads) {
    const auto value = static_cast<double>(x[i]);
    sum += kSquared ? value * value : value;
  }
  shared[thread] = sum;
  for (int half = kThreads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (thread < half) shared[thread] += shared[thread + half];
  }
  if (thread == 0) sums[blockIdx.x] = shared[0];
}

M5_KERNEL M5_BOUNDS(kThreads, 4)
    adamw_kernel(const Stretch* which, UpdateStep step, const double* gradient, float* m, float* v,
                 float* p, int* not_finite) {
  const Stretch stretch = which[blockIdx.x];
  const double rate = step.learning_rate * stretch.factor;
  const double decay = stretch.decay ? step.weight_decay : 0.0;
  bool ok = true;
  for (int k = static_cast<int>(threadIdx.x); k < stretch.count; k += kThreads) {
    const std::int64_t i = stretch.offset + k;
    const double g = gradient[i] * step.gradient_scale;
    const double mi = step.beta1 * static_cast<double>(m[i]) + (1 - step.beta1) * g;
    const double vi = step.beta2 * static_cast<double>(v[i]) + (1 - step.beta2) * g * g;
    const auto pi = static_cast<double>(p[i]);
    const double move = mi / step.correction1 / (sqrt(vi / step.correction2) + step.epsilon);
    m[i] = static_cast<float>(mi);
    v[i] = static_cast<float>(vi);
    p[i] = static_cast<float>(pi - rate * (move + decay * pi));
    ok = ok && is_finite(m[i]) && is_finite(v[i]) && is_finite(p[i]);
  }
  if (!ok) *not_finite = 1;  // whoever comes last writes the same
}

M5_KERNEL average_kernel(std::int64_t count, double gain, const float* x, float* mean) {
  const std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= count) return;
  const auto before = static_cast<double>(mean[i]);
  mean[i] = static_cast<float>(before + gain * (static_cast<double>(x[i]) - before));
}

unsigned blocks(std::int64_t threads) { return static_cast<unsigned>(ceil_div(threads, kThreads)); }

}  // namespace

template <class T>
void squared_norm(Device& device, std::int64_t count, const T* x, double* partial, double* sum) {
  const std::int64_t parts = square_parts(count);
  constexpr std::size_t kShared = kThreads * sizeof(double);
  device.launch("squared_norm", sum_kernel<T, true>, static_cast<unsigned>(parts), kThreads,
                kShared, count, std::int64_t{kSquares}, x, partial);
  device.launch("squared_norm", sum_kernel<double, false>, 1, kThreads, kShared, parts, parts,
                partial, sum);
}
template void squared_norm<float>(Device&, std::int64_t, const float*, double*, double*);
template void squared_norm<double>(Device&, std::int64_t, const double*, double*, double*);

std::vector<Stretch> stretches_of(std::span<const UpdatePart> parts) {
  std::vector<Stretch> stretches;
  for (const UpdatePart& part : parts) {
    if (part.muon()) continue;
    for (std::int64_t at = 0; at < part.size; at += kStretch) {
      const auto count = static_cast<std::int32_t>(std::min(kStretch, part.size - at));
      stretches.push_back({part.offset + at, count, part.decay, part.factor});
    }
  }
  return stretches;
}

void adamw(Device& device, std::int64_t stretches, const Stretch* which, const UpdateStep& step,
           const double* gradient, float* m, float* v, float* p, int* not_finite) {
  device.launch("adamw", adamw_kernel, static_cast<unsigned>(stretches), kThreads, 0, which, step,
                gradient, m, v, p, not_finite);
}

void move_average(Device& device, std::int64_t count, double gain, const float* x, float* mean) {
  device.launch("average", average_kernel, blocks(count), kThreads, 0, count, gain, x, mean);
}

}  // namespace m5::kernels::cuda
