// What the tables of kernels' times share.
#pragma once

#include <algorithm>
#include <chrono>
#include <random>
#include <vector>

#include "kernels/cuda/device.hpp"

namespace m5::kernels::cuda {

// Seconds of the best of some calls that wait for the device, after one that is not counted.
template <class Call>
double best_of(int runs, Call call) {
  call();
  double best = 1e30;
  for (int i = 0; i < runs; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    call();
    const std::chrono::duration<double> time = std::chrono::steady_clock::now() - begin;
    best = std::min(best, time.count());
  }
  return best;
}

// Of one call, the best of 3 times 10, after some that are not counted.
template <class Call>
double seconds(Device& device, Call call) {
  constexpr int kRepeat = 10;
  double best = 1e30;
  for (int run = 0; run < 4; ++run) {
    const auto begin = std::chrono::steady_clock::now();
    for (int i = 0; i < kRepeat; ++i) call();
    device.finish();
    const std::chrono::duration<double> time = std::chrono::steady_clock::now() - begin;
    if (run > 0) best = std::min(best, time.count() / kRepeat);
  }
  return best;
}

inline Array<bf16> random_operand(Device& device, std::int64_t count, double scale) {
  std::vector<bf16> values(1 << 20);
  std::mt19937 random(1);
  for (bf16& v : values) {
    v = from_float<bf16>(static_cast<float>(scale * (random() * 0x1p-31 - 1)));
  }
  Array<bf16> array(device, count, "an operand");
  for (std::int64_t at = 0; at < count; at += 1 << 20) {
    const std::int64_t n = std::min<std::int64_t>(1 << 20, count - at);
    device.upload(array.data() + at, values.data(), static_cast<std::size_t>(n) * sizeof(bf16));
  }
  return array;
}

}  // namespace m5::kernels::cuda
