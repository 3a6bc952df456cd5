// The waist (kernels/sweeps.hpp) on a GPU: x of the whole batch lies in the memory of the device, a
// sweep goes over it in chunks of rows, and every chunk uses the same buffers.
#pragma once

#include <algorithm>
#include <array>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kernels/cuda/attention.hpp"
#include "kernels/cuda/batch.hpp"
#include "kernels/cuda/device.hpp"
#include "kernels/cuda/fused.hpp"
#include "kernels/cuda/library.hpp"
#include "kernels/cuda/products.hpp"
#include "kernels/cuda/rows.hpp"
#include "kernels/cuda/sequences.hpp"
#include "kernels/cuda/slab.hpp"
#include "kernels/cuda/update.hpp"
#include "kernels/sweeps.hpp"

namespace m5::kernels::cuda {

inline constexpr int kBlockRows = 1024;  // of one call back
inline constexpr std::int64_t kHiddenRows = 16384;
// Of what is free a plan leaves this: for the code of kernels, ours and cuBLASLt's, which is loaded
// when the first of them runs, and for what the pool rounds up. No count has it.
inline constexpr std::uint64_t kSpareBytes = 256'000'000;

// Whether forward sweeps of this setup take the kernels of fused.hpp.
inline bool fuses_layers(const CudaSetup& setup) {
  return setup.fused != Fused::kNone && setup.bf16 &&
         fuses_layers(setup.config.dim, setup.config.ff_dim);
}

// narrow: in bf16.
AttentionSize attention_size(const ModelConfig& config, bool narrow);

// Buffers of a chunk; columns of a row in comments. E: the type of x and of operands.
template <class E>
struct Workspace {
  Workspace() = default;
  Workspace(Device& device, const CudaSetup& setup);
  static std::uint64_t bytes(const CudaSetup& setup);

  Array<E> x;              // [d] rows that were asked for
  Array<E> h;              // [d] normed
  Array<E> z;              // [(4 + dv) H] keys and values, or queries [4 H]
  Array<E> o;              // [d] attention output
  Array<E> up;             // [ff] after gelu, or one-hot tokens; none where that is fused
  Array<float> log_probs;  // [4]
  Array<std::int64_t> rows;
  Array<float> partial;  // of the sums of pieces or parts, or a product that is a gradient
  // Training.
  Array<E> a, h2;         // [d] between attention and feed-forward, and normed
  Array<E> keep, d_up;    // [ff] before gelu, and its gradient
  Array<E> out, dx;       // [d] of rows that were asked for: after the layer; gradient
  Array<E> dh, d_o;       // [d]
  Array<E> dz;            // [(4 + dv) H] or [4 H]
  Array<E> du;            // [(dv + 1) H]
  Array<float> weight;    // [H]
  Array<float> inverse;   // [1] of final norms
  Array<float> d_logits;  // [4]

 private:
  // take(array of w, its elements) for all that the setup needs.
  template <class Take>
  static void each(const CudaSetup& setup, Workspace& w, Take take);
};

// Of the host: what is on its way between the two while the next chunk is computed.
struct AskedTransfer {  // of rows that were asked for
  AskedTransfer(Device& device, std::int64_t most_rows)
      : rows(device, most_rows), log_probs(device, most_rows * 4), done(device) {}
  Pinned<std::int64_t> rows;
  Pinned<float> log_probs;  // [4], and d_logits on their way back
  Event done;
};

template <class E>
class CudaPass;
template <class E>
class CudaUpdate;

template <class E>
class CudaSweeps final : public Sweeps<float> {
 public:
  explicit CudaSweeps(const CudaSetup& setup);

  int block_rows() const override { return kBlockRows; }
  void load(const float* parameters) override;
  std::unique_ptr<Pass<float>> begin(std::span<const TokenView> batch, int stages) override;
  Bytes ready_memory() const override;
  Bytes pass_memory(const PassSize& size) const override;
  // update.cu
  std::unique_ptr<Update> make_update(std::span<const UpdatePart> parts,
                                      ParameterState& state) override;
  Bytes update_memory(std::span<const UpdatePart> parts, bool averaged) const override;
  std::uint64_t free_memory() const override {
    const std::uint64_t free = device_.free_bytes();
    return free - std::min(free, kSpareBytes);
  }

  Device& device() { return device_; }

 private:
  friend class CudaPass<E>;
  friend class CudaUpdate<E>;
  // Error(kResource) with `what` so many bytes, and what is free, where it is less. All of that:
  // what a plan left is partly taken by now.
  void require_free(std::uint64_t bytes, const std::string& what) const;
  void make_operands();  // of the parameters
  const float* parameter(std::int64_t offset) const { return parameters_.data() + offset; }
  // The same as an operand.
  const E* operand(std::int64_t offset) const;
  double* gradient(std::int64_t offset) { return gradient_.data() + offset; }
  float epsilon() const { return static_cast<float>(config().norm_epsilon); }
  int query_columns() const { return kKeyDim * config().heads; }
  int key_columns() const { return (kKeyDim + config().value_dim()) * config().heads; }
  const LayerOffsets& at(int layer) const {
    return table().layers[static_cast<std::size_t>(layer)];
  }
  Convolution convolution(int layer) const;
  bool any_convolution() const;
  // On their way to the host at a time.
  std::int64_t hidden_rows() const { return std::min(kHiddenRows, setup_.chunk_rows); }

  CudaSetup setup_;
  Device device_;
  const AttentionSize attention_;
  const std::vector<Region> regions_;  // of operands_ and of products that are gradients
  std::unique_ptr<Products> products_;
  Array<Region> device_regions_;
  Array<float> parameters_;  // [total]
  Array<E> operands_;        // [total]; empty where E is float
  // [total], training: of the passes since the update cleared it; without one, of the pass.
  Array<double> gradient_;
  UpdateMemory update_;      // empty before make_update
  Array<double> head_sums_;  // [4][d]
  Array<double> weights_;    // [F] of the states
  Workspace<E> work_;
  std::unique_ptr<TokenTransfer> tokens_;
  std::array<std::unique_ptr<AskedTransfer>, 2> asked_;
  std::array<std::unique_ptr<Transfer<E>>, 2> hidden_;  // where they are asked for
};

template <class E>
class CudaPass final : public Pass<float> {
 public:
  CudaPass(CudaSweeps<E>& sweeps, std::span<const TokenView> batch, int stages);

  void embed(int out, bool next) override;
  void convolve(int layer, int in, int out, bool keys) override;
  void layer(int layer, int in, int out, bool next) override;
  void head(int in, std::span<const std::int64_t> rows, float* log_probs,
            const FinishRows<float>& finish) override;
  void hidden(int in, bool normed, const RowSink<float>& sink,
              const std::function<void()>& on_failure) override;
  void head_backward(int in, std::span<const std::int64_t> rows, float* log_probs,
                     const LossRows<float>& loss, double* gradient) override;
  void query_backward(int layer, int in) override;
  void key_backward(int layer, int in) override;
  void convolve_backward(int layer, int in) override;
  void embed_backward() override;

 private:
  // Rows of a chunk on their way through a layer.
  struct Rows {
    const DeviceCut* cut;
    const Chunk* chunk;
    std::int64_t n() const { return chunk->rows; }
    Pieces pieces() const { return {cut->pieces(*chunk), chunk->pieces, chunk->row}; }
  };
  template <class Work>
  void for_chunks(const DeviceCut& cut, Work work) {
    for (const Chunk& chunk : cut.cut.chunks) work(Rows{&cut, &chunk});
  }
  E* x(int stage, const Rows& rows) {
    return stages_[static_cast<std::size_t>(stage)].data() + rows.chunk->row * dim();
  }
  int dim() const { return s_.config().dim; }
  bool conv(int layer) const { return s_.config().has_conv(layer); }
  float* state(int layer);
  // Where sum_keys leaves the queries of these rows, so that x is normed once, and backward their
  // gradient, so that the norm has one; null: nowhere, in the last layer, where few rows are asked.
  E* queries(int layer, const Rows& rows);

  // forward.cu
  // x = the embedding of the rows.
  void embed_rows(const Rows& rows, E* x);
  void sum_keys(int layer, const Rows& rows, const E* x);
  // h = what queries and keys are made of.
  void attention_norm(int layer, std::int64_t n, const E* x);
  // Keys and values, and queries, of n rows, each where it is not null.
  void normed_products(int layer, std::int64_t n, const E* x, E* keys, E* queries);
  // o = attention(norm(x)); kept: what backward needs of it.
  void attend(int layer, const Rows& rows, const E* x, bool kept);
  // out = x + W_o o.
  void query_half(int layer, const Rows& rows, const E* x, E* out, bool kept);
  void up(int layer, std::int64_t n, const E* x);
  void feed_forward(int layer, const Rows& rows, const E* x, E* out);
  // Both.
  void layer_rows(int layer, const Rows& rows, const E* x, E* out);
  void gather_asked(int in, std::span<const std::int64_t> rows, const Rows& chunk,
                    AskedTransfer& transfer);
  // Calls back of [0, n) in blocks, on the host's threads.
  void for_blocks(std::int64_t n,
                  const std::function<void(int worker, std::int64_t first, int n)>& call);
  // backward.cu
  void recompute(int layer, const Rows& rows, const E* x);
  void layer_backward(int layer, const Rows& rows, E* dx, E* d_queries);
  void query_backward_rows(int layer, const Rows& rows, E* d_queries);
  // From the gradients of keys and values, and of queries, each where it is not null: those of
  // their weights, and of x, which is added to dx. h: x normed.
  void normed_backward(int layer, std::int64_t n, const E* x, const E* d_keys, const E* d_queries,
                       E* dx);
  void add_sums(std::int64_t parts, std::int64_t count, const float* partial, std::int64_t offset);
  // The `count` numbers of the gradient from `offset` on += dy[n][out]^T x[n][in], whose numbers
  // behind those are left out. The products of its parts lie in partial before.
  void add_product(std::int64_t n, int in, int out, const E* x, const E* dy, std::int64_t offset,
                   std::int64_t count);
  void add_product(std::int64_t n, int in, int out, const E* x, const E* dy, std::int64_t offset) {
    add_product(n, in, out, x, dy, offset, std::int64_t{in} * out);
  }
  HeadParameters head_parameters() const;

  CudaSweeps<E>& s_;
  Device& device_;
  Workspace<E>& w_;
  Products& products_;
  Batch batch_;
  std::vector<Array<E>> stages_;      // [rows][d]
  Array<E> queries_;                  // [rows][4 H], or their gradient
  int queries_of_ = -1;               // the layer whose queries are there
  Array<E> spare_;                    // where a convolution cannot work in place
  std::vector<Array<float>> states_;  // [contexts][state], scaled
  Array<double> totals_;              // [contexts][state], while it is summed
  Array<float> inverse_;              // [rows] inverse roots, for convolutions
  // Backward.
  Array<E> dx_, dx_other_;           // [rows][d]
  Array<float> d_states_;            // [contexts][state]
  double* host_gradient_ = nullptr;  // null: that of the update
};

}  // namespace m5::kernels::cuda
