// What the kernels of the attention on tensor cores share: products of bf16 with fp32 sums, for
// precision bf16, orders 2, 4 and 6 and 8 values a head. A block has 8 heads, a warp one of them,
// 16 rows at a time; monomials are made in registers (orbits.hpp). Rows pass through shared memory
// by tiles, two of each: while one is computed with, the next one is on its way.
#pragma once

#include "kernels/cuda/attention.hpp"
#include "kernels/cuda/formulas.hpp"
#include "kernels/cuda/mma.hpp"
#include "kernels/cuda/orbits.hpp"

namespace m5::kernels::cuda {

// These are called by those of attention.hpp, where AttentionSize::tensor_cores says so.
void accumulate_mma(Device& device, const AttentionSize& size, const Pieces& pieces, const bf16* z,
                    std::int64_t z_stride, const bf16* u, std::int64_t u_stride, bool unit_column,
                    float* partial);
void query_mma(Device& device, const AttentionSize& size, const Pieces& pieces, const bf16* q,
               const float* scaled, bf16* o, float* weight_sum);
void query_backward_mma(Device& device, const AttentionSize& size, const Pieces& pieces,
                        const bf16* q, const float* scaled, const bf16* o, const float* weight_sum,
                        const bf16* d_o, bf16* dq, bf16* du);
void accumulate_backward_mma(Device& device, const AttentionSize& size, const Pieces& pieces,
                             const bf16* kv, const float* d_state, bf16* d_kv);

namespace tensor {

inline constexpr int kThreads = kHeads * kWarp;
// Of a multiprocessor: what the registers of an order leave.
template <int P>
inline constexpr int kBlocks = P <= 4 ? 2 : 1;

M5_DEVICE int lane() { return static_cast<int>(threadIdx.x) % kWarp; }
M5_DEVICE int head() { return static_cast<int>(threadIdx.x) / kWarp; }

// Rows of 8 heads in shared memory, in 4-byte words: 2 or 4 for each head, and some more, so that
// the reads of a warp, which are of one head, meet no bank twice.
inline constexpr int kTwoStride = 2 * kHeads + 2, kFourStride = 4 * kHeads + 4;

// What the kernels are told of AttentionSize.
struct Sizes {
  std::int64_t state;
  int heads;
  float bound, root, inverse_bound;  // root: of the bound
};
inline Sizes sizes(const AttentionSize& s) {
  return {s.state(), s.heads, s.bound, std::sqrt(s.bound), 1 / s.bound};
}
// launch(P) of an order that there are kernels for.
template <class Launch>
void by_order(int order, Launch launch) {
  if (order == 2) return launch(std::integral_constant<int, 2>());
  if (order == 4) return launch(std::integral_constant<int, 4>());
  launch(std::integral_constant<int, 6>());
}

// A key or query on its way: 4 bf16.
struct alignas(8) Vector {
  unsigned pair[2];
};
struct alignas(8) Two {
  float v[2];
};

// z' = z sqrt(R / (R + |z|^2)). root: of R.
M5_DEVICE void bounded(const Vector& from, float bound, float root, float (&z)[4]) {
#pragma unroll
  for (int a = 0; a < 4; ++a)
    z[a] = a % 2 ? second_of(from.pair[a / 2]) : first_of(from.pair[a / 2]);
  float square = bound;
#pragma unroll
  for (int a = 0; a < 4; ++a) square = fmaf(z[a], z[a], square);
  const float scale = root * fast_inverse_root(square);
#pragma unroll
  for (int a = 0; a < 4; ++a) z[a] *= scale;
}

// For select_bytes of a Vector: its components `first` and the next one around.
M5_DEVICE unsigned rotation_bytes(int first) {
  const auto bytes = [](int component) {
    const auto at = static_cast<unsigned>(component % 4 * 2);
    return at | (at + 1) << 4;
  };
  return bytes(first) | bytes(first + 1) << 8;
}

// What lies from `at` on, 4 words, as the lanes with this rotation see it.
template <class T>
M5_DEVICE void rotated(const T* at, int rotation, T (&z)[4]) {
#pragma unroll
  for (int i = 0; i < 4; ++i) z[i] = at[(rotation + i) % 4];
}

// Pairs 2 t and 2 t + 1 of two tokens, m, as 16 columns of A.
template <int P>
M5_DEVICE void slot_columns(const unsigned (&m)[2][kPairs<P>], int t, unsigned (&a)[4]) {
  const int second = 2 * t + 1 < kPairs<P> ? 2 * t + 1 : 0;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    a[half] = m[half][2 * t];
    a[half + 2] = second ? m[half][second] : 0;
  }
}

// Where the head's column of a state lies, [9][slots].
template <int P>
M5_DEVICE std::int64_t state_column(std::int64_t slice, int head) {
  return (slice * kHeads + head) * (kColumns * kSlots<P>);
}
// Of such a column of a state, pair j in rotation q; 0 behind the last pair.
template <int P>
M5_DEVICE Two slot_pair(const float* state, int column, int j, int q) {
  if (j >= kPairs<P>) return {};
  return *reinterpret_cast<const Two*>(state + column * kSlots<P> + 8 * j + 2 * q);
}

}  // namespace tensor

}  // namespace m5::kernels::cuda
