// What the attention kernels share, compiled once per target: included inside foreach_target.h.
// Their lanes are heads, so that no lane is idle and nothing is shuffled. Monomials come from a
// table of those of half the degree, one product each (simd.hpp, ProductTable).
#if defined(M5_ATTENTION_TABLES_HPP) == defined(HWY_TARGET_TOGGLE)
#ifdef M5_ATTENTION_TABLES_HPP
#undef M5_ATTENTION_TABLES_HPP
#else
#define M5_ATTENTION_TABLES_HPP
#endif

#include <hwy/highway.h>

#include "kernels/cpu/by_lanes.hpp"
#include "kernels/cpu/simd.hpp"

HWY_BEFORE_NAMESPACE();
namespace m5::kernels::simd {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Rows whose tables are made at once, 15 (p = 4) vectors a row: what measured best, in L1 or L2.
constexpr int kTableRows = 32, kQueryTableRows = 48;
// Accumulators: kBlock x 9 of the 32 registers where there are 32.
#if HWY_ARCH_X86 && HWY_TARGET > HWY_AVX3
constexpr int kBlock = 1;
#else
constexpr int kBlock = 3;
#endif

// GCC would rather load a vector again as the memory operand of each multiplication than keep it in
// a register, and the loads then limit the kernel.
template <class V>
HWY_INLINE V in_register(V v) {
#if HWY_ARCH_X86 && HWY_COMPILER_GCC_ACTUAL
  asm("" : "+v"(v.raw));
#endif
  return v;
}

// t[row][entry][lanes] for rows of one head group.
template <class D>
void fill_table(D d, const ProductTable& product, int rows, const float* z, std::int64_t z_stride,
                int heads, float* t) {
  const std::size_t lanes = hn::Lanes(d);
  for (int r = 0; r < rows; ++r) {
    const float* row = z + r * z_stride;
    float* out = t + static_cast<std::size_t>(r * product.half_features) * lanes;
    hn::Store(hn::Set(d, 1.0f), d, out);
    for (int f = 1; f < product.half_features; ++f) {
      const auto parent = hn::Load(d, out + static_cast<std::size_t>(product.parent[f]) * lanes);
      const auto factor = hn::LoadU(d, row + product.variable[f] * heads);
      hn::Store(hn::Mul(parent, factor), d, out + static_cast<std::size_t>(f) * lanes);
    }
  }
}

// out[row][columns][lanes] = columns of u of one head group, ones in the last if unit.
template <class D>
void gather_columns(D d, int rows, const float* u, std::int64_t u_stride, int heads, int columns,
                    bool unit, float* out) {
  const std::size_t lanes = hn::Lanes(d);
  for (int r = 0; r < rows; ++r) {
    for (int c = 0; c < columns; ++c, out += lanes) {
      const bool one = unit && c + 1 == columns;
      hn::Store(one ? hn::Set(d, 1.0f) : hn::LoadU(d, u + r * u_stride + c * heads), d, out);
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace m5::kernels::simd
HWY_AFTER_NAMESPACE();

#endif
