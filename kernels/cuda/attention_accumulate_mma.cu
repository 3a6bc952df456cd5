// S^T += [v, 1]^T phi(k) on tensor cores: rows of A are columns of the state, its columns tokens;
// columns of B are the slots of a pair of representatives.
#include "kernels/cuda/attention_mma.hpp"

namespace m5::kernels::cuda {
namespace {

using namespace tensor;

constexpr int kRows = 64, kRowPairs = kRows / 2;  // of a tile
static_assert(kRowPairs * kHeads == kThreads);

// A tile: keys by pairs of rows, component by component; the columns as they come, the last one by
// pairs of rows.
struct Tile {
  unsigned keys[kRowPairs * kFourStride];
  Eight columns[kRows * kFourStride / 4];
  unsigned last[kRowPairs * kHeads];
};

// Of a piece, at the block's first head.
struct Operands {
  const bf16* z;
  std::int64_t z_stride;
  const bf16* u;
  std::int64_t u_stride;
  int last_column;  // from u; 0: it is 1
  float bound, root;

  // Rows [row, row + kRows) of the columns, zero behind the end of the piece.
  M5_DEVICE void copy_columns(int row, int rows, Tile& tile) const {
#pragma unroll
    for (int i = 0; i < kRows * kHeads / kThreads; ++i) {
      const int e = static_cast<int>(threadIdx.x) + i * kThreads, r = e / kHeads, h = e % kHeads;
      Eight* to = tile.columns + r * (kFourStride / 4) + h;
      if (row + r < rows) {
        __pipeline_memcpy_async(to, u + (row + r) * u_stride + h * kValues, sizeof(Eight));
      } else {
        *to = {};
      }
    }
    __pipeline_commit();
  }
};

// The keys of a tile and its last column on their way, in registers: two rows of one head.
struct Incoming {
  Vector first, second;
  unsigned last;

  M5_DEVICE void load(const Operands& o, int row, int rows) {
    const int thread = static_cast<int>(threadIdx.x);
    const int r = row + thread / kHeads * 2, h = thread % kHeads;
    const auto key = [&](int at) {
      return at < rows ? *reinterpret_cast<const Vector*>(o.z + at * o.z_stride + h * 4) : Vector{};
    };
    const auto column = [&](int at) -> unsigned {
      if (at >= rows) return 0;
      return o.last_column ? o.u[at * o.u_stride + o.last_column + h].bits : kOnes & 0xffffu;
    };
    first = key(r);
    second = key(r + 1);
    last = column(r) | column(r + 1) << 16;
  }
  M5_DEVICE void store(const Operands& o, Tile& tile) const {
    const int thread = static_cast<int>(threadIdx.x);
    float z[2][4];
    bounded(first, o.bound, o.root, z[0]);
    bounded(second, o.bound, o.root, z[1]);
    Eight both;
#pragma unroll
    for (int a = 0; a < 4; ++a) both.pair[a] = pack(z[0][a], z[1][a]);
    *reinterpret_cast<Eight*>(tile.keys + thread / kHeads * kFourStride + thread % kHeads * 4) =
        both;
    tile.last[thread] = last;
  }
};

// grid: heads_and_pieces.
template <int P>
M5_KERNEL M5_BOUNDS(kThreads, kBlocks<P>)
    accumulate_mma_kernel(const Piece* pieces, std::int64_t first_row, Operands o, float* partial) {
  Tile* tiles = shared_memory<Tile>();
  const Piece& piece = pieces[blockIdx.y];
  const int rows = piece.rows, g = lane() / 4, q = lane() % 4;
  const std::int64_t from = piece.row - first_row, first_head = std::int64_t{blockIdx.x} * kHeads;
  o.z += from * o.z_stride + first_head * 4;
  o.u += from * o.u_stride + first_head * kValues;
  // Behind the values of all heads, one number a head.
  if (o.last_column) o.last_column -= static_cast<int>(first_head) * (kValues - 1);

  float sum[kPairs<P>][4] = {};
  Incoming next;
  next.load(o, 0, rows);
  o.copy_columns(0, rows, tiles[0]);
  for (int row = 0, buffer = 0; row < rows; row += kRows, buffer ^= 1) {
    const Tile& tile = tiles[buffer];
    next.store(o, tiles[buffer]);
    __pipeline_wait_prior(0);
    __syncthreads();  // the tile is there, and the one before is no longer read
    if (row + kRows < rows) {
      o.copy_columns(row + kRows, rows, tiles[buffer ^ 1]);
      next.load(o, row + kRows, rows);
    }
#pragma unroll
    for (int step = 0; step < kRows; step += 16) {
      if (row + step >= rows) break;
      unsigned a[4], b[2][kPairs<P>];
      load_transposed(tile.columns + (step + lane() % 16) * (kFourStride / 4) + head(), a[0], a[2]);
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int pair = step / 2 + 4 * half + q;
        a[2 * half + 1] = tile.last[pair * kHeads + head()];  // of g > 0 nobody reads the sum
        unsigned z[4];
        rotated(tile.keys + pair * kFourStride + head() * 4, g / 2, z);
        slot_pairs<P>(z, g % 2, b[half]);
      }
#pragma unroll
      for (int j = 0; j < kPairs<P>; ++j) mma(sum[j], a, b[0][j], b[1][j]);
    }
  }

  const std::int64_t slice = std::int64_t{blockIdx.y} * gridDim.x + blockIdx.x;
  float* out = partial + state_column<P>(slice, head()) + 2 * q;
#pragma unroll
  for (int j = 0; j < kPairs<P>; ++j) {
    *reinterpret_cast<Two*>(out + g * kSlots<P> + 8 * j) = {sum[j][0], sum[j][1]};
    if (g == 0) *reinterpret_cast<Two*>(out + kValues * kSlots<P> + 8 * j) = {sum[j][2], sum[j][3]};
  }
}

}  // namespace

void accumulate_mma(Device& device, const AttentionSize& size, const Pieces& p, const bf16* z,
                    std::int64_t z_stride, const bf16* u, std::int64_t u_stride, bool unit_column,
                    float* partial) {
  const Operands o{z,
                   z_stride,
                   u,
                   u_stride,
                   unit_column ? 0 : kValues * size.heads,
                   size.bound,
                   std::sqrt(size.bound)};
  by_order(size.order, [&](auto order) {
    device.launch("accumulate", accumulate_mma_kernel<decltype(order)::value>,
                  heads_and_pieces(size, p), kThreads, 2 * sizeof(Tile), p.pieces, p.first_row, o,
                  partial);
  });
}

}  // namespace m5::kernels::cuda
