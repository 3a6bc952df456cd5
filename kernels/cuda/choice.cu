#include "kernels/cuda/choice.hpp"

#include "kernels/cuda/mma.hpp"

namespace m5::kernels::cuda {
namespace {

constexpr int kThreads = 256;

M5_KERNEL random_kernel(std::int64_t words, unsigned seed, unsigned* to) {
  const std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= words) return;
  unsigned x = static_cast<unsigned>(i) * 0x9e3779b9u + seed * 0x85ebca6bu;
  x = (x ^ x >> 16) * 0x7feb352du;
  x = (x ^ x >> 15) * 0x846ca68bu;
  x ^= x >> 16;
  const auto number = [](unsigned bits) { return static_cast<float>(bits) * 0x1p-15f - 1; };
  to[i] = pack(number(x & 0xffff), number(x >> 16));
}

M5_KERNEL compare_kernel(std::int64_t words, const unsigned* x, const unsigned* y, int* differ) {
  const std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i < words && x[i] != y[i]) *differ = 1;  // whoever comes last writes the same
}

unsigned blocks(std::int64_t words) { return static_cast<unsigned>(ceil_div(words, kThreads)); }

}  // namespace

void random_pairs(Device& device, std::int64_t words, unsigned seed, unsigned* to) {
  device.launch("choice", random_kernel, blocks(words), kThreads, 0, words, seed, to);
}

void compare_words(Device& device, std::int64_t words, const unsigned* x, const unsigned* y,
                   int* differ) {
  device.launch("choice", compare_kernel, blocks(words), kThreads, 0, words, x, y, differ);
}

}  // namespace m5::kernels::cuda
