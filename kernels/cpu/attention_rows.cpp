// The row-wise parts of the attention: bounding queries and keys, dividing by the weight. Lanes =
// heads.

#include "kernels/cpu/targets.hpp"

#include "kernels/cpu/by_lanes.hpp"
#include "kernels/cpu/simd.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/attention_rows.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace m5::kernels::simd {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <class D>
void divide_lanes(D d, const AttentionShape& shape, int n, const float* u, float* o,
                  float* weight) {
  const int heads = shape.heads, dv = shape.value_dim;
  const auto lanes = static_cast<int>(hn::Lanes(d));
  for (int i = 0; i < n; ++i, u += (dv + 1) * heads, o += dv * heads, weight += heads) {
    for (int h = 0; h < heads; h += lanes) {
      const auto sum = hn::LoadU(d, u + dv * heads + h);
      const auto inverse = hn::Div(hn::Set(d, 1.0f), sum);
      hn::StoreU(sum, d, weight + h);
      for (int c = 0; c < dv; ++c) {
        hn::StoreU(hn::Mul(hn::LoadU(d, u + c * heads + h), inverse), d, o + c * heads + h);
      }
    }
  }
}

template <class D>
void divide_backward_lanes(D d, const AttentionShape& shape, int n, const float* o,
                           const float* weight, const float* d_o, float* du) {
  const int heads = shape.heads, dv = shape.value_dim;
  const auto lanes = static_cast<int>(hn::Lanes(d));
  for (int i = 0; i < n; ++i) {
    for (int h = 0; h < heads; h += lanes) {
      const auto inverse = hn::Div(hn::Set(d, 1.0f), hn::LoadU(d, weight + h));
      auto dot = hn::Zero(d);
      for (int c = 0; c < dv; ++c) {
        const auto g = hn::Mul(hn::LoadU(d, d_o + c * heads + h), inverse);
        dot = hn::MulAdd(g, hn::LoadU(d, o + c * heads + h), dot);
        hn::StoreU(g, d, du + c * heads + h);
      }
      hn::StoreU(hn::Neg(dot), d, du + dv * heads + h);
    }
    o += dv * heads;
    d_o += dv * heads;
    du += (dv + 1) * heads;
    weight += heads;
  }
}

// s = sqrt(R / (R + |z|^2)); calls use(component pointer offset) per head group.
template <class D>
void bound_lanes(D d, const AttentionShape& shape, int n, std::int64_t stride, const float* z,
                 float* bounded) {
  const int heads = shape.heads;
  const auto limit = hn::Set(d, static_cast<float>(shape.bound));
  for (int i = 0; i < n; ++i, z += stride, bounded += stride) {
    for (int h = 0; h < heads; h += static_cast<int>(hn::Lanes(d))) {
      auto square = limit;
      for (int a = 0; a < 4; ++a) {
        const auto za = hn::LoadU(d, z + a * heads + h);
        square = hn::MulAdd(za, za, square);
      }
      const auto s = hn::Sqrt(hn::Div(limit, square));
      for (int a = 0; a < 4; ++a) {
        hn::StoreU(hn::Mul(s, hn::LoadU(d, z + a * heads + h)), d, bounded + a * heads + h);
      }
    }
  }
}

// dz = s (dz' - z' (z'.dz') / R)
template <class D>
void bound_backward_lanes(D d, const AttentionShape& shape, int n, std::int64_t stride,
                          const float* z, const float* d_bounded, float* dz) {
  const int heads = shape.heads;
  const auto limit = hn::Set(d, static_cast<float>(shape.bound));
  for (int i = 0; i < n; ++i, z += stride, d_bounded += stride, dz += stride) {
    for (int h = 0; h < heads; h += static_cast<int>(hn::Lanes(d))) {
      auto square = limit, dot = hn::Zero(d);
      for (int a = 0; a < 4; ++a) {
        const auto za = hn::LoadU(d, z + a * heads + h);
        square = hn::MulAdd(za, za, square);
        dot = hn::MulAdd(za, hn::LoadU(d, d_bounded + a * heads + h), dot);
      }
      const auto s = hn::Sqrt(hn::Div(limit, square));
      // z' (z'.dz') / R = z s^2 (z.dz') / R = z (z.dz') / (R + |z|^2)
      const auto along = hn::Div(dot, square);
      for (int a = 0; a < 4; ++a) {
        const auto za = hn::LoadU(d, z + a * heads + h);
        const auto g = hn::LoadU(d, d_bounded + a * heads + h);
        hn::StoreU(hn::Mul(s, hn::NegMulAdd(za, along, g)), d, dz + a * heads + h);
      }
    }
  }
}

void divide(const AttentionShape& shape, int n, const float* u, float* o, float* weight) {
  M5_BY_LANES(shape.heads, divide_lanes, shape, n, u, o, weight);
}
void divide_backward(const AttentionShape& shape, int n, const float* o, const float* weight,
                     const float* d_o, float* du) {
  M5_BY_LANES(shape.heads, divide_backward_lanes, shape, n, o, weight, d_o, du);
}
void bound(const AttentionShape& shape, int n, std::int64_t stride, const float* z,
           float* bounded) {
  M5_BY_LANES(shape.heads, bound_lanes, shape, n, stride, z, bounded);
}
void bound_backward(const AttentionShape& shape, int n, std::int64_t stride, const float* z,
                    const float* d_bounded, float* dz) {
  M5_BY_LANES(shape.heads, bound_backward_lanes, shape, n, stride, z, d_bounded, dz);
}

}  // namespace HWY_NAMESPACE
}  // namespace m5::kernels::simd
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace m5::kernels::simd {

HWY_EXPORT(divide);
HWY_EXPORT(divide_backward);
HWY_EXPORT(bound);
HWY_EXPORT(bound_backward);

void divide(const AttentionShape& shape, int n, const float* u, float* o, float* weight) {
  HWY_DYNAMIC_DISPATCH(divide)(shape, n, u, o, weight);
}
void divide_backward(const AttentionShape& shape, int n, const float* o, const float* weight,
                     const float* d_o, float* du) {
  HWY_DYNAMIC_DISPATCH(divide_backward)(shape, n, o, weight, d_o, du);
}
void bound(const AttentionShape& shape, int n, std::int64_t stride, const float* z,
           float* bounded) {
  HWY_DYNAMIC_DISPATCH(bound)(shape, n, stride, z, bounded);
}
void bound_backward(const AttentionShape& shape, int n, std::int64_t stride, const float* z,
                    const float* d_bounded, float* dz) {
  HWY_DYNAMIC_DISPATCH(bound_backward)(shape, n, stride, z, d_bounded, dz);
}

}  // namespace m5::kernels::simd
#endif
