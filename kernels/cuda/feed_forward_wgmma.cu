// The kernel of feed_forward_mma.cu by the tensor cores of a warpgroup (sm_90a): 64 rows that read
// each weight once from shared memory, 64 hidden columns a stage.
#include "kernels/cuda/fused_wgmma.hpp"

namespace m5::kernels::cuda {
namespace {

using namespace fused;

template <int D>
struct Shape {
  static constexpr int kWarps = D <= 128 ? 12 : 8, kThreads = kWarps * kWarp;
  // A stage, in Eights: rows of W_1 by 64 columns, columns of W_2 (or of W_o); behind all, b_1.
  static constexpr int kUp = kStageColumns * D / 8, kDown = D * kStageColumns / 8;
  static constexpr int kStage = kUp + kDown, kBias = kStageColumns / 8;
  static constexpr int kStages = 3;
  static constexpr std::size_t kShared = kSwizzleBytes + kStages * (kStage + kBias) * sizeof(Eight);
  static_assert(kShared <= 227 * 1024);
};

// 64 columns of W [D][stride]; their rows so that a lane's sums are 8 neighbours (fused_mma.hpp).
template <int D>
M5_DEVICE void copy_columns(const bf16* weight, int stride, Eight* to) {
  constexpr int kRows = 32, kThreads = Shape<D>::kThreads;
  const int thread = thread_again(), row = thread / 8, c = thread % 8;
  if (kThreads > kRows * 8 && row >= kRows) return;
  weight += std::int64_t{row / 2 % 4 * 8 + row / 8 * 2 + row % 2} * stride + c * 8;
  to += swizzled(row, c);
#pragma unroll
  for (int first = 0; first < D; first += kRows) {
    __pipeline_memcpy_async(to + first * 8, weight, sizeof(Eight));
    weight += kRows * stride;
  }
}

// Of two warpgroups one is half a stage behind, as in feed_forward_mma.cu. Here products are begun,
// then the next stage is asked for, then the products are waited for.
template <int D, bool kOutput>
M5_KERNEL M5_BOUNDS(Shape<D>::kThreads, 1)
    feed_forward_kernel(std::int64_t n, FeedForward p, const bf16* o, const bf16* x, bf16* out) {
  using S = Shape<D>;
  constexpr int kGroups = D / kColumns, kTiles = 4 * kGroups;
  constexpr int kBefore = kOutput ? D / kStageColumns : 0;  // stages of W_o
  Eight* const stages = swizzled_memory();
  const int end = kBefore + p.ff / kStageColumns;
  const auto at = [&](int stage) { return stages + stage % S::kStages * S::kStage; };
  const auto bias_at = [&](int stage) {
    return stages + S::kStages * S::kStage + stage % S::kStages * S::kBias;
  };
  const auto copy_output = [&](int stage) {
    copy_columns<D>(p.output + stage * kStageColumns, D, at(stage) + S::kUp);
    __pipeline_commit();
  };
  const auto copy = [&](int stage) {
    if (stage < end) {
      const int column = (stage - kBefore) * kStageColumns;
      copy_swizzled_rows<D, S::kThreads>(p.up + std::int64_t{column} * D, at(stage));
      copy_columns<D>(p.down + column, p.ff, at(stage) + S::kUp);
      const int thread = thread_again();
      if (thread < S::kBias) {
        __pipeline_memcpy_async(bias_at(stage) + thread, p.up_bias + column + thread * 8,
                                sizeof(Eight));
      }
      __syncwarp();
    }
    __pipeline_commit();
  };
  // The stage before is in use by who is late, this one by all; the next one may come.
  const auto meet = [&] {
    __pipeline_wait_prior(0);
    meet_before_products();
  };
  if constexpr (kOutput) {
    copy_output(0);
  } else {
    copy(0);
  }

  Rows<1, kGroups> rows;
  float(&sums)[kTiles][4] = rows.sums[0];
  unsigned hidden[kSteps][4];  // the A of W_2 (and of W_o)
  const auto down = [&](int stage) {
    const Operand weight = operand(at(stage) + S::kUp);
    settle(hidden);
    before_products(sums);
#pragma unroll
    for (int s = 0; s < kSteps; ++s) warpgroup_mma(sums, hidden[s], further(weight, 2 * s));
    commit_products();
    wait_for_products(sums);
  };
  {
    const std::int64_t row = first_row<1>();
    const int column = lane() % 4 * 8, left = rows_left(n, row);
#pragma unroll
    for (int j = 0; j < kGroups; ++j) {
      load_group<1>(x + row * D + j * kColumns + column, D, left, rows.normed[j]);
    }
    rows.widen();
    if constexpr (kOutput) {
      o += row * D + column;
      Group<1> next[2];
      const auto load = [&](int stage) {
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          load_group<1>(o + stage * kStageColumns + j * kColumns, D, left, next[j]);
        }
      };
      load(0);
#pragma unroll 1
      for (int stage = 0; stage < kBefore; ++stage) {
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          transpose_quad(next[j][0]);
#pragma unroll
          for (int i = 0; i < 8; ++i) hidden[2 * j + i / 4][i % 4] = next[j][0][i / 4][i % 4];
        }
        meet();
        if (stage + 1 < kBefore) {
          copy_output(stage + 1);
          load(stage + 1);
        } else {
          copy(stage + 1);
        }
        down(stage);
      }
#pragma unroll
      for (int j = 0; j < kGroups; ++j) rows.narrow(j, p.output_bias + column, rows.normed[j]);
      rows.widen();
    }
    norm_rows<1, kGroups, true>(p.gain + column, p.epsilon, rows.normed);
#pragma unroll
    for (int j = 0; j < kGroups; ++j) transpose_quad(rows.normed[j][0]);
  }

  float inner[kStageColumns / 8][4];
  const auto up = [&](int stage) {
    begin_hidden<kGroups>(rows.normed, at(stage), bias_at(stage), inner);
    copy(stage + 1);
    wait_for_products(inner);
    take_gelu(inner, hidden);
  };
  // The same for all of a warp, as the compiler sees.
  const int warpgroup = __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / (4 * kWarp), 0);
  const bool late = warpgroup % 2 == 1;
  // Nothing by the weights that are there, so that all turns are alike.
#pragma unroll
  for (int s = 0; s < kSteps; ++s) hidden[s][0] = hidden[s][1] = hidden[s][2] = hidden[s][3] = 0;
  if (kBefore == 0) meet();
#pragma unroll 1
  for (int stage = kBefore; stage < end; ++stage) {
    if (late) meet();
    down(stage > 0 ? stage - 1 : 0);
    if (!late) meet();
    up(stage);
  }
  down(end - 1);

  const std::int64_t row = first_row<1>();
  const int column = thread_again() % 4 * 8, left = rows_left(n, row);
#pragma unroll
  for (int j = 0; j < kGroups; ++j) {
    Group<1> result;
    rows.narrow(j, p.down_bias + column, result);
    store_group<1>(result, D, left, out + row * D + j * kColumns + column);
  }
}

template <int D>
void launch(Device& device, std::int64_t n, const FeedForward& p, const bf16* o, const bf16* x,
            bf16* out) {
  using S = Shape<D>;
  const auto blocks = static_cast<unsigned>(ceil_div(n, S::kWarps * 16));
  const auto kernel = o ? feed_forward_kernel<D, true> : feed_forward_kernel<D, false>;
  device.launch("feed_forward", kernel, blocks, S::kThreads, S::kShared, n, p, o, x, out);
}

}  // namespace

void feed_forward_by_warpgroups(Device& device, std::int64_t n, const FeedForward& p, const bf16* o,
                                const bf16* x, bf16* out) {
  if (p.dim == 128) return launch<128>(device, n, p, o, x, out);
  launch<256>(device, n, p, o, x, out);
}

}  // namespace m5::kernels::cuda
