// The attention's kernels. Formulas: kernels/backend.hpp.
//
// A state slice is what 8 heads and up to 8 value columns have: [F][9][8], column 8 the sum of
// weights; features in the order of features.hpp. A state is [H / 8][batches][slice], batches =
// ceil(dv / 8); columns beyond dv are zero. Keys and queries come unbounded: the kernels bound
// them. E: float or bf16.
//
// On tensor cores a slice is [8 heads][9][slots] (orbits.hpp), so that what a warp reads and writes
// of it is in a row, and the columns of q, k, v, o and their gradients lie by heads: [H][4] and
// [H][8] where it says [4][H] and [dv][H] below.
#pragma once

#include "kernels/cuda/batch.hpp"
#include "kernels/cuda/device.hpp"

namespace m5::kernels::cuda {

inline constexpr int kHeads = 8;    // of a slice
inline constexpr int kValues = 8;   // columns of a slice
inline constexpr int kColumns = 9;  // and the sum of weights

struct AttentionSize {
  int heads = 0, value_dim = 0, order = 0, features = 0;
  float bound = 0;
  bool tensor_cores = false;  // products of bf16 in the attention; only where they can()
  bool can_use_tensor_cores() const { return order <= 6 && value_dim == kValues; }
  int terms() const;  // of a column of the state: features, or slots
  int batches() const { return (value_dim + kValues - 1) / kValues; }
  int slices() const { return heads / kHeads * batches(); }
  std::int64_t slice() const { return std::int64_t{terms()} * kColumns * kHeads; }
  std::int64_t state() const { return slices() * slice(); }
  std::size_t slice_bytes() const { return static_cast<std::size_t>(slice()) * sizeof(float); }
};

// What a chunk is for these kernels: its pieces; row 0 of the arrays is the row `first_row`.
struct Pieces {
  const Piece* pieces = nullptr;
  std::int64_t count = 0, first_row = 0;
};
// Blocks of 8 heads, pieces: what the blocks of a piece read and write shares cache lines.
inline dim3 heads_and_pieces(const AttentionSize& size, const Pieces& pieces) {
  return dim3(static_cast<unsigned>(size.heads / kHeads), static_cast<unsigned>(pieces.count));
}

// partial[piece][state] = sum over its rows of m_f(z') [u, 1]: z [n][z_stride], u [n][u_stride].
// unit_column: the last column is 1, else it is column dv of u.
template <class E>
void accumulate(Device& device, const AttentionSize& size, const Pieces& pieces, const E* z,
                std::int64_t z_stride, const E* u, std::int64_t u_stride, bool unit_column,
                float* partial);
// total[context][state] (+)= the partial states of its pieces in order, in double; where the
// context ends, scaled[context][state] = weights[term] total.
void reduce_states(Device& device, const AttentionSize& size, const Span* spans,
                   std::int64_t span_count, const float* partial, const double* weights,
                   double* total, float* scaled);
// o[n][dv][H], weight_sum[n][H] (may be null) from q [n][4][H].
template <class E>
void query(Device& device, const AttentionSize& size, const Pieces& pieces, const E* q,
           const float* scaled, E* o, float* weight_sum);
// From d_o: dq [n][4][H] of the unbounded q, and du [n][dv+1][H].
template <class E>
void query_backward(Device& device, const AttentionSize& size, const Pieces& pieces, const E* q,
                    const float* scaled, const E* o, const float* weight_sum, const E* d_o, E* dq,
                    E* du);
// From the scaled gradient of the state: d_kv [n][4 + dv][H] of the unbounded kv.
template <class E>
void accumulate_backward(Device& device, const AttentionSize& size, const Pieces& pieces,
                         const E* kv, const float* d_state, E* d_kv);

// c_|f| |f|! / f! of the terms in the order of states; 0 for slots that weigh nothing (host).
std::vector<double> state_weights(const AttentionSize& size, const std::vector<double>& polynomial);

}  // namespace m5::kernels::cuda
