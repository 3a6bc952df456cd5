// What a genome's own counts say of a base, mixed into the log-probabilities of the encoder.
//
// For a row with log-probabilities l_b of the encoder and counts n_ob of O orders (GenomeMemory):
//   evidence    x_ob = log((n_ob + a) / (n_o + 4 a)) + log 4, a = 0.3; x_Ob = l_b
//   confidence  c_o = 0.3 log(1 + n_o);                      c_O = entropy of l
//   u_b = gelu(c W_c + b_c + x_b W_x),  z_b = l_b + u_b . w,  log-probability = log softmax_b(z)
// The four bases share the weights. A row sees its own counts only, so p(x_i | all other bases)
// stays that: what masks hide from the encoder, the counts leave out.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/backend.hpp"
#include "kernels/parameters.hpp"
#include "m5/config.hpp"

namespace m5 {

template <class T>
class MemoryMix {
 public:
  MemoryMix(const MemoryConfig& config, const MemoryOffsets& offsets)
      : orders_(static_cast<int>(config.orders.size())),
        hidden_(config.hidden),
        at_(offsets.from(offsets.confidence_weight)) {}

  // What one worker keeps of a block, from forward to backward.
  struct Work {
    std::vector<std::uint32_t> counts;   // [n][O][4]
    std::vector<T> evidence;             // [n][4][O + 1]
    std::vector<T> confidence;           // [n][O + 1]
    std::vector<T> before_gelu, hidden;  // [n][4][H]
    std::vector<T> d_hidden;             // [n][4][H]
  };
  // Of all workers, for blocks of so many rows: taken when there is something to mix.
  static std::uint64_t work_bytes(const MemoryConfig& config, int workers, std::int64_t rows,
                                  bool training);

  // log_probs[n][4]: in, of the encoder; out, mixed. parameters: the memory's part of the slab.
  // host: the operations and workers of the host.
  void forward(int worker, kernels::Backend<T>& host, const T* parameters,
               std::span<const std::int64_t> rows, const RowCounts& counts, Work& w,
               T* log_probs) const;
  // gradient[n][4]: in, of z; out, of the encoder's logits. d_parameters +=, as parameters.
  // Directly after forward of the same rows.
  void backward(int worker, kernels::Backend<T>& host, const T* parameters, int n, Work& w,
                T* gradient, T* d_parameters) const;

 private:
  const int orders_, hidden_;
  const MemoryOffsets at_;  // into the memory's part
};

extern template class MemoryMix<float>;
extern template class MemoryMix<double>;

}  // namespace m5
