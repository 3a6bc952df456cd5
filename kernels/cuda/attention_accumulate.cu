// Sums of monomials times values over the rows of a piece, and of the pieces of a context.
#include "kernels/cuda/attention.hpp"
#include "kernels/cuda/attention_mma.hpp"
#include "kernels/cuda/features.hpp"
#include "kernels/math/monomials.hpp"
#include "m5/error.hpp"

namespace m5::kernels::cuda {
namespace {

constexpr int kRows = 32;                       // of a tile in shared memory
constexpr int kParts = 4 + kColumns;            // of a row and head: z, u, the unit column
constexpr int kTile = kRows * kParts * kHeads;  // floats
constexpr int kRowLanes = kWarp / kHeads;       // rows that a warp reads at a time
static_assert(kPieceRows / kRowLanes <= 128, "a chain of fp32 sums is at most 128 rows");

// Features of one warp: all sums of a thread are in registers.
template <int P>
inline constexpr int kGroup = P == 2   ? 5
                              : P == 8 ? 9
                                       : 7;
template <int P>
inline constexpr int kGroups = (kFeatures<P> + kGroup<P> - 1) / kGroup<P>;
template <int P>
inline constexpr int kWarps = kGroups<P> < 10 ? kGroups<P> : 10;

template <int P, int g, int i>
M5_DEVICE void add_features(const float (&z)[4], const float (&u)[kColumns],
                            float (&sum)[kGroup<P>][kColumns]) {
  if constexpr (i < kGroup<P> && g * kGroup<P> + i < kFeatures<P>) {
    const float m = monomial<P, g * kGroup<P> + i>(z);
#pragma unroll
    for (int c = 0; c < kColumns; ++c) sum[i][c] = fmaf(m, u[c], sum[i][c]);
    add_features<P, g, i + 1>(z, u, sum);
  }
}

// at: the first row and the head of this lane.
template <int P, int g>
M5_DEVICE void add_rows(int group, const float* at, float (&sum)[kGroup<P>][kColumns]) {
  if constexpr (g < kGroups<P>) {
    if (group != g) return add_rows<P, g + 1>(group, at, sum);
    for (int r = 0; r < kRows; r += kRowLanes) {
      const float* row = at + r * kParts * kHeads;
      float z[4], u[kColumns];
#pragma unroll
      for (int a = 0; a < 4; ++a) z[a] = row[a * kHeads];
#pragma unroll
      for (int c = 0; c < kColumns; ++c) u[c] = row[(4 + c) * kHeads];
      add_features<P, g, 0>(z, u, sum);
    }
  }
}

template <class E>
struct Operands {
  const E* z;
  std::int64_t z_stride;
  const E* u;
  std::int64_t u_stride;
  std::int64_t heads;
  int value_dim, batches, unit_column;
  float bound;
};

// Rows [row, row + kRows) of the piece into a tile; zero behind its end.
template <class E>
M5_DEVICE void stage(const Operands<E>& o, std::int64_t first_row, int row, int rows, int slice,
                     float* tile) {
  const std::int64_t head = std::int64_t{slice / o.batches} * kHeads;
  const int first_column = slice % o.batches * kValues;
  for (int e = static_cast<int>(threadIdx.x); e < kTile / 4; e += static_cast<int>(blockDim.x)) {
    const int quarter = e % 2 * 4, part = e / 2 % kParts, r = e / 2 / kParts;
    const std::int64_t at = first_row + row + r;
    float* to = tile + e * 4;
    const E* from = nullptr;
    float constant = 0;
    if (row + r < rows) {
      const int column = first_column + part - 4;
      if (part < 4) {
        from = o.z + at * o.z_stride + part * o.heads;
      } else if (part < 4 + kValues) {
        if (column < o.value_dim) from = o.u + at * o.u_stride + column * o.heads;
      } else if (o.unit_column) {
        constant = 1;
      } else if (first_column == 0) {
        from = o.u + at * o.u_stride + o.value_dim * o.heads;
      }
    }
    if (from && std::is_same_v<E, float>) {
      __pipeline_memcpy_async(to, from + head + quarter, 16);
    } else if (from) {
      float four[4];
      load4(from + head + quarter, four);
      store4(to, four);
    } else {
#pragma unroll
      for (int i = 0; i < 4; ++i) to[i] = constant;
    }
  }
  __pipeline_commit();
}

// grid: slices, pieces, groups of kWarps groups of features.
template <int P, class E>
M5_KERNEL M5_BOUNDS(kWarps<P>* kWarp, P == 8 ? 1 : 2)
    accumulate_kernel(const Piece* pieces, std::int64_t first_row, Operands<E> o, float* partial) {
  float* tiles = shared_memory<float>();
  const Piece& piece = pieces[blockIdx.y];
  const int rows = piece.rows, slice = static_cast<int>(blockIdx.x);
  const std::int64_t from = piece.row - first_row;
  const int thread = static_cast<int>(threadIdx.x), lane = thread % kWarp;
  const int group = static_cast<int>(blockIdx.z) * kWarps<P> + thread / kWarp;
  const int head = lane % kHeads, row_lane = lane / kHeads;

  float sum[kGroup<P>][kColumns] = {};
  stage(o, from, 0, rows, slice, tiles);
  for (int row = 0; row < rows; row += kRows) {
    float* tile = tiles + row / kRows % 2 * kTile;
    __pipeline_wait_prior(0);
    __syncthreads();  // the tile is there, and the other one is no longer read
    if (row + kRows < rows) {
      stage(o, from, row + kRows, rows, slice, tiles + (row / kRows + 1) % 2 * kTile);
    }
    for (int e = thread; e < kRows * kHeads; e += kWarps<P> * kWarp) {
      float* z = tile + e / kHeads * kParts * kHeads + e % kHeads;
      float square = 0;
#pragma unroll
      for (int a = 0; a < 4; ++a) square = fmaf(z[a * kHeads], z[a * kHeads], square);
      const float scale = sqrtf(o.bound / (o.bound + square));
#pragma unroll
      for (int a = 0; a < 4; ++a) z[a * kHeads] *= scale;
    }
    __syncthreads();
    add_rows<P, 0>(group, tile + row_lane * kParts * kHeads + head, sum);
  }

  const std::int64_t slices = gridDim.x;
  float* out = partial + (blockIdx.y * slices + slice) * (kFeatures<P> * kColumns * kHeads) + head;
#pragma unroll
  for (int i = 0; i < kGroup<P>; ++i) {
    const int f = group * kGroup<P> + i;
#pragma unroll
    for (int c = 0; c < kColumns; ++c) {
      float total = sum[i][c];
#pragma unroll
      for (int lanes = kHeads; lanes < kWarp; lanes *= 2) {
        total += __shfl_xor_sync(0xffffffffu, total, lanes);
      }
      if ((i * kColumns + c) % kRowLanes == row_lane && f < kFeatures<P>) {
        out[(f * kColumns + c) * kHeads] = total;
      }
    }
  }
}

// grid: elements of a state, spans; a term has `inner` neighbours. kSlices threads load the pieces
// of an element, the first adds them: one after the other, so that a sum does not know where chunks
// begin.
constexpr int kElements = 32, kSlices = 8, kEach = 8;
M5_KERNEL M5_BOUNDS(kElements* kSlices, 4)
    reduce_kernel(const Span* spans, std::int64_t state, int inner, int terms, const float* partial,
                  const double* weights, double* total, float* scaled) {
  float* shared = shared_memory<float>();  // [kSlices * kEach][kElements]
  const int thread = static_cast<int>(threadIdx.x), slice = thread / kElements;
  const int column = thread % kElements;
  const std::int64_t element = std::int64_t{blockIdx.x} * kElements + column;
  const Span span = spans[blockIdx.y];
  const std::int64_t at = span.context * state + element;
  const bool adds = slice == 0 && element < state;
  double sum = adds && !span.begins ? total[at] : 0.0;
  float next[kEach];
  const auto load = [&](int first) {
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const int p = first + slice * kEach + i;
      const bool there = p < span.end_piece && element < state;
      next[i] = there ? partial[std::int64_t{p} * state + element] : 0.0f;
    }
  };
  load(span.first_piece);
  for (int first = span.first_piece; first < span.end_piece; first += kSlices * kEach) {
#pragma unroll
    for (int i = 0; i < kEach; ++i) shared[(slice * kEach + i) * kElements + column] = next[i];
    __syncthreads();
    load(first + kSlices * kEach);  // on their way while these are added
    if (adds) {
      const int left = span.end_piece - first;
      for (int i = 0; i < kSlices * kEach && i < left; ++i) {
        sum += static_cast<double>(shared[i * kElements + column]);
      }
    }
    __syncthreads();
  }
  if (!adds) return;
  total[at] = sum;
  if (span.ends) {
    scaled[at] = static_cast<float>(weights[element / inner % terms] * sum);
  }
}

template <int P, class E>
void launch_accumulate(Device& device, const AttentionSize& size, const Pieces& p,
                       const Operands<E>& operands, float* partial) {
  const dim3 grid(static_cast<unsigned>(size.slices()), static_cast<unsigned>(p.count),
                  static_cast<unsigned>(ceil_div(kGroups<P>, kWarps<P>)));
  device.launch("accumulate", accumulate_kernel<P, E>, grid, kWarps<P> * kWarp,
                2 * kTile * sizeof(float), p.pieces, p.first_row, operands, partial);
}

}  // namespace

template <class E>
void accumulate(Device& device, const AttentionSize& size, const Pieces& p, const E* z,
                std::int64_t z_stride, const E* u, std::int64_t u_stride, bool unit_column,
                float* partial) {
  if constexpr (std::is_same_v<E, bf16>) {
    if (size.tensor_cores) {
      return accumulate_mma(device, size, p, z, z_stride, u, u_stride, unit_column, partial);
    }
  }
  const Operands<E> o{
      z,           z_stride,  u, u_stride, size.heads, size.value_dim, size.batches(),
      unit_column, size.bound};
  switch (size.order) {
    case 2:
      return launch_accumulate<2, E>(device, size, p, o, partial);
    case 4:
      return launch_accumulate<4, E>(device, size, p, o, partial);
    case 6:
      return launch_accumulate<6, E>(device, size, p, o, partial);
    default:
      return launch_accumulate<8, E>(device, size, p, o, partial);
  }
}

void reduce_states(Device& device, const AttentionSize& size, const Span* spans,
                   std::int64_t span_count, const float* partial, const double* weights,
                   double* total, float* scaled) {
  constexpr std::int64_t kMostSpans = 65535;  // of the second dimension of a grid
  for (std::int64_t at = 0; at < span_count; at += kMostSpans) {
    const std::int64_t n = span_count - at < kMostSpans ? span_count - at : kMostSpans;
    const dim3 grid(static_cast<unsigned>(ceil_div(size.state(), kElements)),
                    static_cast<unsigned>(n));
    device.launch("reduce_states", reduce_kernel, grid, kElements * kSlices,
                  kSlices * kEach * kElements * sizeof(float), spans + at, size.state(),
                  size.tensor_cores ? 1 : kColumns * kHeads, size.terms(), partial, weights, total,
                  scaled);
  }
}

template void accumulate<float>(Device&, const AttentionSize&, const Pieces&, const float*,
                                std::int64_t, const float*, std::int64_t, bool, float*);
template void accumulate<bf16>(Device&, const AttentionSize&, const Pieces&, const bf16*,
                               std::int64_t, const bf16*, std::int64_t, bool, float*);

int AttentionSize::terms() const {
  return tensor_cores ? static_cast<int>(slot_features(order).size()) : features;
}

std::vector<double> state_weights(const AttentionSize& size,
                                  const std::vector<double>& polynomial) {
  std::vector<double> by_feature;
  for (const std::array<int, 4>& exponent : feature_exponents(size.order)) {
    Monomial m{exponent, 0, -1, 0};
    for (int e : exponent) m.degree += e;
    by_feature.push_back(polynomial[static_cast<std::size_t>(m.degree)] * multinomial(m));
  }
  if (!size.tensor_cores) return by_feature;
  std::vector<double> weights;
  for (const int f : slot_features(size.order)) {
    weights.push_back(f < 0 ? 0.0 : by_feature[static_cast<std::size_t>(f)]);
  }
  return weights;
}

}  // namespace m5::kernels::cuda
