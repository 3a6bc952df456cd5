// A norm and the products behind it: a warp has 32 rows, norm(x) as fragments.
#include "kernels/cuda/fused_mma.hpp"

namespace m5::kernels::cuda {
namespace {

using namespace fused;

// Small blocks, some of them on an SM: one loads and stores while another one multiplies.
constexpr int kWarps = 4, kThreads = kWarps * kWarp;
constexpr int kTiles = 2, kStages = 3;

template <int D>
M5_KERNEL M5_BOUNDS(kThreads, (D <= 128 ? 4 : 2))
    norm_product_kernel(std::int64_t n, NormProduct p, const bf16* x) {
  constexpr int kGroups = D / kColumns, kStage = kColumns * D / 8;
  Eight* stages = shared_memory<Eight>();
  const int between = p.first.columns / kColumns, end = between + p.second.columns / kColumns;
  const auto copy = [&](int stage) {
    if (stage < end) {
      const bf16* weight = stage < between ? p.first.weight : p.second.weight;
      const int at = stage < between ? stage : stage - between;
      copy_rows<D, kThreads>(weight + std::int64_t{at} * (kColumns * D),
                             stages + stage % kStages * kStage);
    }
    __pipeline_commit();
  };
  for (int stage = 0; stage < kStages - 1; ++stage) copy(stage);
  Fragments<kTiles, kGroups> normed;
  {
    const std::int64_t row = first_row<kTiles>();
    const int column = lane() % 4 * 8, left = rows_left(n, row);
#pragma unroll
    for (int j = 0; j < kGroups; ++j) {
      load_group<kTiles>(x + row * D + j * kColumns + column, D, left, normed[j]);
    }
    norm_rows<kTiles, kGroups>(p.gain + column, p.epsilon, normed);
  }
  for (int stage = 0; stage < end; ++stage) {
    __pipeline_wait_prior(kStages - 2);
    __syncthreads();
    copy(stage + kStages - 1);
    Group<kTiles> result;
    multiply_rows<kTiles, kGroups>(stages + stage % kStages * kStage, Eight{}, normed, result,
                                   [](float(&)[8]) {});
    const std::int64_t row = first_row<kTiles>();
    const NormProduct::Product& to = stage < between ? p.first : p.second;
    const int at = stage < between ? stage : stage - between;
    store_group<kTiles>(result, to.columns, rows_left(n, row),
                        to.out + row * to.columns + at * kColumns + thread_again() % 4 * 8);
  }
}

template <int D>
void launch(Device& device, std::int64_t n, const NormProduct& p, const bf16* x) {
  device.launch("norm_product", norm_product_kernel<D>,
                static_cast<unsigned>(ceil_div(n, kWarps * 16 * kTiles)), kThreads,
                kStages * kColumns * D / 8 * sizeof(Eight), n, p, x);
}

}  // namespace

void norm_product(Device& device, std::int64_t n, const NormProduct& p, const bf16* x) {
  if (p.dim == 64) return launch<64>(device, n, p, x);
  if (p.dim == 128) return launch<128>(device, n, p, x);
  launch<256>(device, n, p, x);
}

}  // namespace m5::kernels::cuda
