// What forward (encoder_forward.cpp) and backward (encoder_backward.cpp) share.
#pragma once

#include <array>
#include <functional>
#include <initializer_list>
#include <memory>
#include <vector>

#include "kernels/backend.hpp"
#include "nn/encoder.hpp"
#include "nn/layout.hpp"
#include "nn/ordered_sum.hpp"
#include "nn/row_store.hpp"

namespace m5 {

// Position in [0, length) of an unwrapped one, or -1 outside a linear sequence.
inline std::int64_t wrap(const TokenView& sequence, std::int64_t position) {
  if (position >= 0 && position < sequence.length) return position;
  if (!sequence.circular) return -1;
  position %= sequence.length;
  return position < 0 ? position + sequence.length : position;
}

// Rows on each side that the local convolution of layer l reads (0 without one), and the most of
// all layers.
inline int conv_halo(const ModelConfig& config, int l) {
  if (!config.has_conv(l)) return 0;
  const LocalConv& c = config.local_conv[static_cast<std::size_t>(l)];
  return (c.width - 1) / 2 * c.dilation;
}
inline int max_conv_halo(const ModelConfig& config) {
  int halo = 0;
  for (int l = 0; l < config.layers; ++l) halo = std::max(halo, conv_halo(config, l));
  return halo;
}

// Training: which buffer holds which stage, the residual stream that enters layer l before (2 l) or
// after (2 l + 1) its local convolution. With k = 1 every stage has its own. With k > 1 layers come
// in groups of k; what enters a group is kept, the stages inside have buffers that all groups
// share.
struct StagePlan {
  StagePlan(const ModelConfig& config, int k);
  std::vector<int> buffer;  // of each stage; -1: no such stage
  int buffers = 0;
};

// The memory one worker needs for one block of rows; shapes per row in comments.
template <class T>
struct Workspace {
  Workspace(int worker, kernels::Backend<T>& backend, const ModelConfig& config, int block,
            int conv_halo, bool training);

  const int id;  // of the worker

  kernels::Buffer<T> x;         // [d] residual stream, before and after a sub-layer
  kernels::Buffer<T> h;         // [d] normed
  kernels::Buffer<T> q;         // [4H]
  kernels::Buffer<T> kv;        // [(4+dv)H]
  kernels::Buffer<T> o;         // [dv H] attention output
  kernels::Buffer<T> weight;    // [H] sum of attention weights
  kernels::Buffer<T> up;        // [ff] after gelu
  kernels::Buffer<T> window;    // [d], block + 2 halo rows: normed input of the local convolution
  kernels::Buffer<T> d_logits;  // [4], training and memory_gradient only
  typename MemoryMix<T>::Work memory;
  // Training only.
  kernels::Buffer<T> a;         // [d] residual stream between attention and feed-forward
  kernels::Buffer<T> h2;        // [d] normed a
  kernels::Buffer<T> q_raw;     // [4H] before bounding
  kernels::Buffer<T> kv_raw;    // [(4+dv)H]
  kernels::Buffer<T> up_raw;    // [ff] before gelu
  kernels::Buffer<T> dx, dh;    // [d]
  kernels::Buffer<T> d_o;       // [dv H]
  kernels::Buffer<T> du;        // [(dv+1) H]
  kernels::Buffer<T> dq;        // [4H]
  kernels::Buffer<T> dkv;       // [(4+dv)H]
  kernels::Buffer<T> d_up;      // [ff]
  kernels::Buffer<T> d_window;  // [d], block + 2 halo rows
  std::vector<Token> tokens;    // block + 2w
  std::vector<double> state_part, state_total;  // [F][C][H], of contexts within one tile
  std::int64_t window_rows = 0;                 // rows of the part that window holds
};

template <class T>
struct Encoder<T>::Impl {
  using Linear = kernels::Linear<T>;
  using Work = Workspace<T>;
  struct Layer {
    std::unique_ptr<Linear> query, key_value, output, up, down;
  };

  Impl(const ModelConfig& config, kernels::Backend<T>& backend, bool training, int block_rows,
       bool bf16_residual);
  void set_parameters(const T* values);

  // --- the state of one call (encoder.cpp)
  struct Pass;
  class TileStates;
  void embed_sweep(Pass& pass);
  void conv_sweep(Pass& pass, int l);
  void layer_sweep(Pass& pass, int l);  // query half and feed-forward of l, key half of l + 1
  void run(Pass& pass, int whole, bool next_keys,
           const std::function<void(int layers)>& after = {});
  std::function<void(int done, int of)> on_layer;  // may be empty
  void last_layer_log_probs(Pass& pass, std::span<const std::int64_t> rows, T* log_probs);
  // log_probs [rows.size()][4], in place, where the pass has counts.
  void mix_memory(Pass& pass, Work& w, std::span<const std::int64_t> rows, T* log_probs);

  // sums: those that work_on adds to; null: none. They give up when a tile throws.
  void for_tiles(const Pass& pass, std::initializer_list<TileSum*> sums,
                 const std::function<void(Work& w, const Tile& tile)>& work_on);
  // Indices [begin, end) into the ascending rows that lie in the tile.
  static std::pair<std::int64_t, std::int64_t> rows_of_tile(std::span<const std::int64_t> rows,
                                                            const Tile& tile);
  static void parts_of_rows(const Layout& layout, const Tile& tile,
                            std::span<const std::int64_t> rows, std::vector<Part>& parts);

  void query_half(Pass& pass, Work& w, int l, int n, std::span<const Part> parts);
  void feed_forward(Work& w, int l, int n);
  void key_half(Work& w, int l, const TileBlocks& block, TileStates& states);
  void norm_rows(int worker, int n, const T* x, std::int64_t gain, T* y);
  // Ends a tile whose stage `l` input is complete: halos for the convolution, or nothing.
  void save_halos(Pass& pass, Work& w, const Tile& tile, int l);
  void load_normed(Pass& pass, Work& w, int l, std::int64_t row, std::int64_t n, T* y);
  void fill_conv_window(Pass& pass, Work& w, const Part& part, int l);
  void token_window(Pass& pass, Work& w, const Part& part);

  // --- backward (encoder_backward.cpp)
  void backward(Pass& pass, const Objective& objective, double loss_scale, double* gradient,
                T* log_probs);
  void loss_sweep(Pass& pass, const Objective& objective, double loss_scale, double* gradient,
                  T* log_probs);
  // Of scale * sum of -log p(target): w.d_logits, and what the mixing of the same rows adds to
  // d_memory, the gradient of the memory's parameters.
  void logits_backward(Pass& pass, Work& w, const Objective& objective, std::int64_t first, int n,
                       double scale, const T* log_probs, T* d_memory);
  void memory_sweep(Pass& pass, const Objective& objective, double loss_scale, double* gradient,
                    T* log_probs);
  void recompute_stages(Pass& pass, int last);
  void query_backward_sweep(Pass& pass, int l, double* gradient);
  void key_backward_sweep(Pass& pass, int l, double* gradient);
  void conv_backward_sweep(Pass& pass, int l, double* gradient);
  void embed_backward_sweep(Pass& pass, double* gradient);
  void recompute(Work& w, int l, const T* state, int n);
  // w.dx: in, gradient of the layer's output; out, of its input by way of the query half. d is the
  // slab of gradients from offset `base` on.
  void layer_backward(Work& w, int l, const T* state, int n, T* d, std::int64_t base,
                      double* d_state);

  const T* parameter(std::int64_t offset) const { return parameters.data() + offset; }
  int conv_halo(int l) const { return m5::conv_halo(config, l); }
  int max_conv_halo() const { return m5::max_conv_halo(config); }
  Work& work(int worker) { return *workspaces[static_cast<std::size_t>(worker)]; }
  const Layer& layer(int l) const { return layers[static_cast<std::size_t>(l)]; }
  const LayerOffsets& offsets(int l) const { return table.layers[static_cast<std::size_t>(l)]; }

  const ModelConfig config;
  const ParameterTable table;
  kernels::Backend<T>& backend;
  const bool training;
  const int block;
  const bool bf16_residual;
  int group_layers = 1;  // k of the StagePlan
  const kernels::AttentionShape shape;
  const MemoryMix<T> mix;
  kernels::Buffer<T> parameters;
  std::vector<Layer> layers;
  std::vector<std::unique_ptr<Work>> workspaces;
};

// One forward (and backward) over a batch. In inference the residual stream exists once and is
// updated in place; in training every sweep writes a stage, which backward reads (StagePlan).
template <class T>
struct Encoder<T>::Impl::Pass {
  Pass(Impl& impl, Batch batch, const RowCounts& counts = {});

  // Residual stream entering layer l: before (conv_done = false) or after its local convolution.
  RowStore<T>& stage(int l, bool conv_done) {
    const std::size_t at = static_cast<std::size_t>(2 * l + conv_done);
    return stages[impl.training ? static_cast<std::size_t>(plan.buffer[at]) : 0];
  }
  T* state(int l, std::int64_t context) {
    return states[static_cast<std::size_t>(l) % states.size()].data() + context * state_size;
  }
  using StateSum = OrderedSum<double>;
  // Sums the parts of the shared tiles of a context, and scales the total: into destination, or
  // into the states of layer l.
  std::unique_ptr<StateSum> sum_states(std::function<T*(std::int64_t context)> destination);
  std::unique_ptr<StateSum> sum_states(int l) {
    return sum_states([this, l](std::int64_t context) { return state(l, context); });
  }

  Impl& impl;
  const Batch batch;
  const RowCounts& counts;
  const Layout layout;
  const std::int64_t state_size;
  const StagePlan plan;
  std::vector<RowStore<T>> stages;
  std::vector<kernels::Buffer<T>> states;  // [contexts][F][C][H], scaled
  kernels::Buffer<T> halos;  // [pieces][2][halo][d], normed, for the coming convolution
  int halo_stride = 0;
  int key_layers = 0;  // layers whose key half runs
  // Backward.
  kernels::Buffer<T> dx, dx_other;  // [rows][d]
  kernels::Buffer<T> d_states;      // [contexts][F][C][H]
  std::vector<double> total;
};

// Sums the states of the contexts of one tile, by pieces: begin and end for every part, in order.
template <class T>
class Encoder<T>::Impl::TileStates {
 public:
  // sum: of the tiles that share contexts with others. The states become those of layer l.
  TileStates(Pass& pass, typename Pass::StateSum* sum, Work& w, const Tile& tile, int l)
      : pass_(pass), sum_(sum), w_(w), tile_(tile), l_(l) {}

  double* begin(const Part& part) {
    if (tile_.shared >= 0) {
      if (part.offset == 0) part_ = sum_->begin_part(tile_.shared);
      return part_.get();
    }
    if (part.offset == 0) {
      const auto size = static_cast<std::size_t>(pass_.state_size);
      w_.state_part.assign(size, 0.0);
      if (part.piece == tile_.first_piece || pass_.layout.piece(part.piece - 1).last_of_context) {
        w_.state_total.assign(size, 0.0);
      }
    }
    return w_.state_part.data();
  }

  void end(const Part& part) {
    const Piece& piece = pass_.layout.piece(part.piece);
    if (part.offset + part.n < piece.rows) return;
    if (tile_.shared >= 0) {
      sum_->end_part(tile_.shared, std::move(part_));
      return;
    }
    for (std::size_t i = 0; i < w_.state_part.size(); ++i) w_.state_total[i] += w_.state_part[i];
    if (!piece.last_of_context) return;
    pass_.impl.backend.attention_scale(pass_.impl.shape, w_.state_total.data(),
                                       pass_.state(l_, piece.context));
  }

 private:
  Pass& pass_;
  typename Pass::StateSum* sum_;
  Work& w_;
  const Tile& tile_;
  const int l_;
  typename Pass::StateSum::Part part_;
};

}  // namespace m5
