// The tensor cores' product of bf16 with fp32 sums, and its fragments (PTX ISA, mma.m16n8k16).
// Lane = 4 g + q. A [16 rows][16]: a[0] row g, a[1] row g + 8, columns 2q, 2q + 1; a[2], a[3] the
// same rows, columns 2q + 8, 2q + 9. B [16][8 columns]: b0 rows 2q, 2q + 1, b1 rows 2q + 8, 2q + 9,
// column g. D [16 rows][8]: d[0], d[1] row g, columns 2q, 2q + 1; d[2], d[3] row g + 8.
#pragma once

#include "kernels/cuda/gpu.hpp"

namespace m5::kernels::cuda {

// Two bf16 in one register, the first in the low half.
M5_DEVICE unsigned pack(float first, float second) {
#if defined(__CUDA_ARCH__)
  unsigned pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
  return pair;
#else
  return static_cast<unsigned>(from_float<bf16>(first).bits) |
         static_cast<unsigned>(from_float<bf16>(second).bits) << 16;
#endif
}

M5_DEVICE float first_of(unsigned pair) { return to_float(bf16{static_cast<std::uint16_t>(pair)}); }
M5_DEVICE float second_of(unsigned pair) {
  return to_float(bf16{static_cast<std::uint16_t>(pair >> 16)});
}
// The product of two pairs, each rounded to bf16.
M5_DEVICE unsigned multiply_pairs(unsigned a, unsigned b) {
#if defined(__CUDA_ARCH__)
  unsigned product;  // a multiplication of its own needs sm_90
  asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(product) : "r"(a), "r"(b), "r"(0x80008000u));
  return product;
#else
  return pack(first_of(a) * first_of(b), second_of(a) * second_of(b));
#endif
}
// 8 of them: what a thread moves at a time.
struct alignas(16) Eight {
  unsigned pair[4];
};

// In one access: the compiler would cut some of them into four.
M5_DEVICE void store8(bf16* to, const Eight& x) {
#if defined(__CUDA_ARCH__)
  asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};"
               :
               : "l"(__cvta_generic_to_global(to)), "r"(x.pair[0]), "r"(x.pair[1]), "r"(x.pair[2]),
                 "r"(x.pair[3])
               : "memory");
#else
  *reinterpret_cast<Eight*>(to) = x;
#endif
}

inline constexpr unsigned kOnes = 0x3f803f80u;
// Four of the bytes of a (0 .. 3) and b (4 .. 7): the lowest as the lowest 4 bits say, and so on.
M5_DEVICE unsigned select_bytes(unsigned a, unsigned b, unsigned selector) {
#if defined(__CUDA_ARCH__)
  return __byte_perm(a, b, selector);
#else
  const std::uint64_t both = static_cast<std::uint64_t>(b) << 32 | a;
  unsigned bytes = 0;
  for (unsigned i = 0; i < 4; ++i) {
    bytes |= static_cast<unsigned>(both >> (selector >> 4 * i & 7) * 8 & 0xff) << 8 * i;
  }
  return bytes;
#endif
}
// The first and the second halves of two pairs.
M5_DEVICE unsigned firsts(unsigned a, unsigned b) { return select_bytes(a, b, 0x5410); }
M5_DEVICE unsigned seconds(unsigned a, unsigned b) { return select_bytes(a, b, 0x7632); }

// What rounding to bf16 leaves.
M5_DEVICE float rest(float x) { return x - to_float(from_float<bf16>(x)); }

// Two matrices of 8 x 8 bf16 in shared memory, transposed (PTX ISA, ldmatrix): rows of 16 bytes, at
// the addresses that lanes 0 .. 7 and 8 .. 15 give. Lane 4 g + q gets rows 2 q, 2 q + 1, column g.
M5_DEVICE void load_transposed(const void* row, unsigned& first, unsigned& second) {
#if defined(__CUDA_ARCH__)
  const auto at = static_cast<unsigned>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
               : "=r"(first), "=r"(second)
               : "r"(at)
               : "memory");
#elif !defined(__CUDACC__)
  emulation::load_transposed(row, first, second);
#endif
}

// d += A B
M5_DEVICE void mma(float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
#if defined(__CUDA_ARCH__)
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#elif !defined(__CUDACC__)
  emulation::mma(d, a, b0, b1);
#endif
}

}  // namespace m5::kernels::cuda
