// A norm, the product behind it and gelu, by the tensor cores of a warpgroup (sm_90a): for rows too
// wide for the whole of a feed-forward.
#include "kernels/cuda/fused_wgmma.hpp"

namespace m5::kernels::cuda {
namespace {

using namespace fused;

constexpr int kWarps = 8, kThreads = kWarps * kWarp;

template <int D>
struct Shape {
  // A stage, in Eights: rows of W by 64 columns; behind all, b.
  static constexpr int kStage = kStageColumns * D / 8, kBias = kStageColumns / 8;
  static constexpr int kStages = 3;
  static constexpr std::size_t kShared = kSwizzleBytes + kStages * (kStage + kBias) * sizeof(Eight);
  static_assert(kShared <= 227 * 1024);
};

// Of the two warpgroups one takes gelu while the other one multiplies: between two barriers, one
// multiplies and then takes gelu, the other takes that of the stage before and then multiplies.
template <int D>
M5_KERNEL M5_BOUNDS(kThreads, 1)
    norm_gelu_kernel(std::int64_t n, NormGelu p, const bf16* x, bf16* out) {
  using S = Shape<D>;
  constexpr int kGroups = D / kColumns;
  Eight* const stages = swizzled_memory();
  const int end = p.columns / kStageColumns;
  const auto at = [&](int stage) { return stages + stage % S::kStages * S::kStage; };
  const auto bias_at = [&](int stage) {
    return stages + S::kStages * S::kStage + stage % S::kStages * S::kBias;
  };
  const auto copy = [&](int stage) {
    if (stage < end) {
      const int column = stage * kStageColumns;
      copy_swizzled_rows<D, kThreads>(p.weight + std::int64_t{column} * D, at(stage));
      const int thread = thread_again();
      if (thread < S::kBias) {
        __pipeline_memcpy_async(bias_at(stage) + thread, p.bias + column + thread * 8,
                                sizeof(Eight));
      }
      __syncwarp();
    }
    __pipeline_commit();
  };
  constexpr int kAhead = 2;  // a stage is in use, two are on their way
  const auto meet = [&] {
    __pipeline_wait_prior(kAhead - 1);
    meet_before_products();
  };
  for (int stage = 0; stage < kAhead; ++stage) copy(stage);

  Fragments<1, kGroups> normed;
  {
    const std::int64_t row = first_row<1>();
    const int column = lane() % 4 * 8, left = rows_left(n, row);
#pragma unroll
    for (int j = 0; j < kGroups; ++j) {
      load_group<1>(x + row * D + j * kColumns + column, D, left, normed[j]);
    }
    norm_rows<1, kGroups, true>(p.gain + column, p.epsilon, normed);
#pragma unroll
    for (int j = 0; j < kGroups; ++j) transpose_quad(normed[j][0]);
  }

  float inner[kStageColumns / 8][4];
  const auto finish = [&](int stage) {
    unsigned hidden[kSteps][4];
    take_gelu(inner, hidden);
    const std::int64_t row = first_row<1>();
    const int column = stage * kStageColumns + thread_again() % 4 * 8;
#pragma unroll
    for (int j = 0; j < kStageColumns / kColumns; ++j) {
      Group<1> result;
#pragma unroll
      for (int i = 0; i < 8; ++i) result[0][i / 4][i % 4] = hidden[2 * j + i / 4][i % 4];
      transpose_quad(result[0]);
      store_group<1>(result, p.columns, rows_left(n, row),
                     out + row * p.columns + column + j * kColumns);
    }
  };
  // The same for all of a warp, as the compiler sees.
  const int warpgroup = __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / (4 * kWarp), 0);
  const bool late = warpgroup % 2 == 1;
#pragma unroll 1
  for (int stage = 0; stage < end; ++stage) {
    if (late) meet();
    if (stage > 0) finish(stage - 1);
    if (!late) meet();
    begin_hidden<kGroups>(normed, at(stage), bias_at(stage), inner);
    copy(stage + kAhead);
    wait_for_products(inner);
  }
  finish(end - 1);
}

}  // namespace

bool takes_norm_gelu(const Device& device, int dim, int columns) {
  return device.warpgroups() && dim == 512 && columns > 0 && columns % kStageColumns == 0;
}

void norm_gelu(Device& device, std::int64_t n, const NormGelu& p, const bf16* x, bf16* out) {
  device.launch("norm_gelu", norm_gelu_kernel<512>, static_cast<unsigned>(ceil_div(n, kWarps * 16)),
                kThreads, Shape<512>::kShared, n, p, x, out);
}

}  // namespace m5::kernels::cuda
