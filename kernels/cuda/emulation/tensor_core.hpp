// What a tensor core makes of 16 products of bf16 and a sum in fp32.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace m5::kernels::cuda::emulation {

// sum + a b. As coarse as any that has been measured: 8 products and the sum are cut off behind the
// last bit of the greatest one, added, and the result is cut off to fp32 (Fasi et al. 2021,
// doi:10.7717/peerj-cs.330, on the A100; those and newer ones have bits more, the newer ones add
// all 16 at once).
inline float add_products(float sum, const float (&a)[16], const float (&b)[16]) {
  for (int first = 0; first < 16; first += 8) {
    double terms[9], greatest = 0, all = 0;
    for (int i = 0; i < 8; ++i) terms[i] = static_cast<double>(a[first + i]) * b[first + i];
    terms[8] = sum;
    for (const double term : terms) {
      greatest = std::max(greatest, std::abs(term));
      all += term;
    }
    if (!(greatest > 0) || !std::isfinite(all)) {
      sum = static_cast<float>(all);
      continue;
    }
    int exponent = 0;
    std::frexp(greatest, &exponent);
    const double unit = std::ldexp(1.0, exponent - 24), units = std::ldexp(1.0, 24 - exponent);
    std::int64_t cut = 0;
    for (const double term : terms) cut += static_cast<std::int64_t>(term * units);
    const double exact = static_cast<double>(cut) * unit;
    sum = static_cast<float>(exact);
    if (std::abs(static_cast<double>(sum)) > std::abs(exact)) sum = std::nextafter(sum, 0.0f);
  }
  return sum;
}

}  // namespace m5::kernels::cuda::emulation
