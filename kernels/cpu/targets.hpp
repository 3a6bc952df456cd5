// Which instruction sets the kernels are compiled for; included before any <hwy/...> by every file
// that is compiled once per target.
#pragma once

// SSSE3 and AVX3_DL bring nothing to fp32 kernels. The scalable ones have no arrays of vectors,
// which the kernels keep their accumulators in; such machines run the NEON copy.
#define HWY_DISABLED_TARGETS \
  (HWY_SSSE3 | HWY_AVX3_DL | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)
