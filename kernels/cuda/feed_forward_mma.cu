// The output of an attention, its residual and the feed-forward behind it: a warp has 16 or 32
// rows, y as fp32 sums that the last product adds to, norm(y) as fragments of the first.
#include "kernels/cuda/fused_mma.hpp"

namespace m5::kernels::cuda {
namespace {

using namespace fused;

constexpr int kWarps = 8, kThreads = kWarps * kWarp;

template <int D>
struct Shape {
  static constexpr int kGroups = D / kColumns;
  static constexpr int kTiles = D <= 128 ? 2 : 1;  // of 16 rows: 128 sums a lane at most
  // A stage, in Eights: rows of W_1, columns of W_2 (or of W_o), b_1.
  static constexpr int kUp = kColumns * D / 8, kDown = D * kEights;
  static constexpr int kStage = kUp + kDown + kEights;
  // All GPUs since 8.0 have 99 KB for a block.
  static constexpr int kStages = D <= 128 ? 4 : 3;
  static constexpr std::size_t kShared = kStages * kStage * sizeof(Eight);
  static_assert(kShared <= 99 * 1024);
};

// Of the two warps of a scheduler one is half a stage behind, so that the tensor cores have its
// products while the other one takes gelu: between two barriers, one multiplies by W_1, then by
// W_2, the other by W_2 of the stage before, then by W_1.
template <int D, bool kOutput>
M5_KERNEL M5_BOUNDS(kThreads, 1)
    feed_forward_kernel(std::int64_t n, FeedForward p, const bf16* o, const bf16* x, bf16* out) {
  using S = Shape<D>;
  constexpr int kBefore = kOutput ? S::kGroups : 0;  // stages of W_o
  Eight* stages = shared_memory<Eight>();
  const int end = kBefore + p.ff / kColumns;
  const auto at = [&](int stage) { return stages + stage % S::kStages * S::kStage; };
  const auto copy = [&](int stage) {
    Eight* to = at(stage);
    if (stage < kBefore) {
      copy_columns<D, kThreads>(p.output + stage * kColumns, D, to + S::kUp);
    } else if (stage < end) {
      const int column = (stage - kBefore) * kColumns;
      copy_rows<D, kThreads>(p.up + std::int64_t{column} * D, to);
      copy_columns<D, kThreads>(p.down + column, p.ff, to + S::kUp);
      const int thread = thread_again();
      if (thread < kEights) {
        __pipeline_memcpy_async(to + S::kUp + S::kDown + thread, p.up_bias + column + thread * 8,
                                sizeof(Eight));
      }
    }
    __pipeline_commit();
  };
  // A stage and the one before are in use: the others are on their way.
  constexpr int kAhead = S::kStages - 2;
  const auto meet = [&](int stage) {
    __pipeline_wait_prior(kAhead - 1);
    __syncthreads();
    copy(stage + kAhead);
  };
  for (int stage = 0; stage < kAhead; ++stage) copy(stage);

  Rows<S::kTiles, S::kGroups> rows;
  {
    const std::int64_t row = first_row<S::kTiles>();
    const int column = lane() % 4 * 8, left = rows_left(n, row);
#pragma unroll
    for (int j = 0; j < S::kGroups; ++j) {
      load_group<S::kTiles>(x + row * D + j * kColumns + column, D, left, rows.normed[j]);
    }
    rows.widen();
    if constexpr (kOutput) {
      o += row * D + column;
      Group<S::kTiles> now, next;
      load_group<S::kTiles>(o, D, left, now);
#pragma unroll 1
      for (int stage = 0; stage < kBefore; ++stage) {
        meet(stage);
        const int following = stage + 1 < kBefore ? stage + 1 : stage;
        load_group<S::kTiles>(o + following * kColumns, D, left, next);
        multiply_columns<S::kTiles, S::kGroups>(at(stage) + S::kUp, now, rows.sums);
#pragma unroll
        for (int m = 0; m < S::kTiles; ++m) {
#pragma unroll
          for (int i = 0; i < 8; ++i) now[m][i / 4][i % 4] = next[m][i / 4][i % 4];
        }
      }
#pragma unroll
      for (int j = 0; j < S::kGroups; ++j) rows.narrow(j, p.output_bias + column, rows.normed[j]);
      rows.widen();
    }
    norm_rows<S::kTiles, S::kGroups>(p.gain + column, p.epsilon, rows.normed);
  }

  const auto up = [&](int stage, Group<S::kTiles>& hidden) {
    const Eight* weight = at(stage);
    multiply_rows<S::kTiles, S::kGroups>(weight, weight[S::kUp + S::kDown + lane() % 4],
                                         rows.normed, hidden, [](float(&v)[8]) { gelu(v); });
  };
  const auto down = [&](int stage, const Group<S::kTiles>& hidden) {
    multiply_columns<S::kTiles, S::kGroups>(at(stage) + S::kUp, hidden, rows.sums);
  };
  const bool late = static_cast<int>(threadIdx.x) >= kThreads / 2;
  Group<S::kTiles> hidden;
  for (int stage = kBefore; stage < end; ++stage) {
    meet(stage);
    if (late && stage > kBefore) down(stage - 1, hidden);
    up(stage, hidden);
    if (!late) down(stage, hidden);
  }
  if (late) down(end - 1, hidden);

  const std::int64_t row = first_row<S::kTiles>();
  const int column = thread_again() % 4 * 8, left = rows_left(n, row);
#pragma unroll
  for (int j = 0; j < S::kGroups; ++j) {
    Group<S::kTiles> result;
    rows.narrow(j, p.down_bias + column, result);
    store_group<S::kTiles>(result, D, left, out + row * D + j * kColumns + column);
  }
}

template <int D>
void launch(Device& device, std::int64_t n, const FeedForward& p, const bf16* o, const bf16* x,
            bf16* out) {
  const auto blocks = static_cast<unsigned>(ceil_div(n, kWarps * 16 * Shape<D>::kTiles));
  const auto kernel = o ? feed_forward_kernel<D, true> : feed_forward_kernel<D, false>;
  device.launch("feed_forward", kernel, blocks, kThreads, Shape<D>::kShared, n, p, o, x, out);
}

}  // namespace

void feed_forward_by_warps(Device& device, std::int64_t n, const FeedForward& p, const bf16* o,
                           const bf16* x, bf16* out) {
  if (p.dim == 64) return launch<64>(device, n, p, o, x, out);
  if (p.dim == 128) return launch<128>(device, n, p, o, x, out);
  launch<256>(device, n, p, o, x, out);
}

}  // namespace m5::kernels::cuda
