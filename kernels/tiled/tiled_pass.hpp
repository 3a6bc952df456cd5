// One pass as sweeps over tiles of rows (forward.cpp, backward.cpp, windows.cpp).
#pragma once

#include <functional>
#include <initializer_list>
#include <memory>
#include <utility>
#include <vector>

#include "kernels/layout.hpp"
#include "kernels/tiled/ordered_sum.hpp"
#include "kernels/tiled/row_store.hpp"
#include "kernels/tiled/tiled_sweeps.hpp"

namespace m5::kernels {

template <class T>
class TiledPass final : public Pass<T> {
 public:
  TiledPass(TiledSweeps<T>& sweeps, std::span<const TokenView> batch, int stages);

  void embed(int out, bool next) override;
  void convolve(int l, int in, int out, bool keys) override;
  void layer(int l, int in, int out, bool next) override;
  void head(int in, std::span<const std::int64_t> rows, T* log_probs,
            const FinishRows<T>& finish) override;
  void hidden(int in, bool normed, const RowSink<T>& sink,
              const std::function<void()>& on_failure) override;

  void head_backward(int in, std::span<const std::int64_t> rows, T* log_probs,
                     const LossRows<T>& loss, double* gradient) override;
  void query_backward(int l, int in) override;
  void key_backward(int l, int in) override;
  void convolve_backward(int l, int in) override;
  void embed_backward() override;

 private:
  using Work = Workspace<T>;
  class TileStates;

  // --- sums over tiles
  using StateSum = OrderedSum<double>;
  // Sums the parts of the shared tiles of a context, and scales the total: into destination, or
  // into the states of layer l.
  std::unique_ptr<StateSum> sum_states(std::function<T*(std::int64_t context)> destination);
  std::unique_ptr<StateSum> sum_states(int l) {
    return sum_states([this, l](std::int64_t context) { return state_of(l, context); });
  }
  std::unique_ptr<StateSum> sum_d_states() {
    return sum_states([this](std::int64_t context) { return d_state_of(context); });
  }
  void begin_backward(double* gradient);
  // Of the parameters [begin, end): parts in T, the total in double.
  std::unique_ptr<OrderedSum<T>> sum_gradients(std::int64_t begin, std::int64_t end);

  // sums: those that work_on adds to; null: none. They give up when a tile throws.
  void for_tiles(std::initializer_list<TileSum*> sums,
                 const std::function<void(Work& w, const Tile& tile)>& work_on);
  // Indices [begin, end) into the ascending rows that lie in the tile.
  static std::pair<std::int64_t, std::int64_t> rows_of_tile(std::span<const std::int64_t> rows,
                                                            const Tile& tile);
  void parts_of_rows(const Tile& tile, std::span<const std::int64_t> rows,
                     std::vector<Part>& parts) const;

  // --- pieces of a layer, on the block in w.x
  void norm_rows(int worker, int n, const T* x, std::int64_t gain, T* y);
  void query_half(Work& w, int l, int n, std::span<const Part> parts);
  void feed_forward(Work& w, int l, int n);
  void key_half(Work& w, int l, const TileBlocks& block, TileStates& states);
  // query_half and feed_forward, keeping what backward needs; w.x is left as it is.
  void recompute(Work& w, int l, const T* state, int n);
  // w.dx: in, gradient of the layer's output; out, of its input by way of the query half. d is the
  // slab of gradients from offset `base` on.
  void layer_backward(Work& w, int l, const T* state, int n, T* d, std::int64_t base,
                      double* d_state);

  // --- windows over neighbouring rows (windows.cpp)
  void token_window(Work& w, const Part& part);
  void save_halos(Work& w, const Tile& tile, int l, const RowStore<T>& x);
  void load_normed(Work& w, int l, const RowStore<T>& x, std::int64_t row, std::int64_t n, T* y);
  void fill_conv_window(Work& w, const Part& part, int l, const RowStore<T>& x);

  RowStore<T>& stage(int i) { return stages_[static_cast<std::size_t>(i)]; }
  T* state_of(int l, std::int64_t context) {
    return states_[static_cast<std::size_t>(l) % states_.size()].data() + context * state_size_;
  }
  T* d_state_of(std::int64_t context) { return d_states_.data() + context * state_size_; }
  const T* parameter(std::int64_t offset) const { return sweeps_.parameter(offset); }
  const LayerOffsets& offsets(int l) const { return table_.layers[static_cast<std::size_t>(l)]; }
  const typename TiledSweeps<T>::Layer& weights(int l) const { return sweeps_.layer(l); }

  TiledSweeps<T>& sweeps_;
  // Of the sweeps.
  Backend<T>& backend_;
  const ModelConfig& config_;
  const ParameterTable& table_;
  const AttentionShape& shape_;
  const bool training_;
  const int block_;

  const std::span<const TokenView> batch_;
  const Layout layout_;
  const std::int64_t state_size_;
  std::vector<RowStore<T>> stages_;
  std::vector<Buffer<T>> states_;  // [contexts][F][C][H], scaled; in inference of two layers
  Buffer<T> halos_;  // [pieces][2][halo][d], normed, for the coming convolution; inference only
  int halo_stride_ = 0;
  SlabSum total_;  // of the context that is being summed
  // Backward.
  Buffer<T> dx_, dx_other_;  // [rows][d]
  Buffer<T> d_states_;       // [contexts][F][C][H]
  double* gradient_ = nullptr;
};

// Sums the states of the contexts of one tile, by pieces: begin and end for every part, in order.
template <class T>
class TiledPass<T>::TileStates {
 public:
  // sum: of the tiles that share contexts with others. The states become those of layer l.
  TileStates(TiledPass& pass, StateSum* sum, Work& w, const Tile& tile, int l)
      : pass_(pass), sum_(sum), w_(w), tile_(tile), l_(l) {}

  double* begin(const Part& part) {
    if (tile_.shared >= 0) {
      if (part.offset == 0) part_ = sum_->begin_part(tile_.shared);
      return part_.get();
    }
    if (part.offset == 0) {
      const auto size = static_cast<std::size_t>(pass_.state_size_);
      w_.state_part.assign(size, 0.0);
      if (part.piece == tile_.first_piece || pass_.layout_.piece(part.piece - 1).last_of_context) {
        w_.state_total.begin(pass_.state_size_);
      }
    }
    return w_.state_part.data();
  }

  void end(const Part& part) {
    const Piece& piece = pass_.layout_.piece(part.piece);
    if (part.offset + part.n < piece.rows) return;
    if (tile_.shared >= 0) {
      sum_->end_part(tile_.shared, std::move(part_));
      return;
    }
    w_.state_total.add(w_.state_part.data());
    if (!piece.last_of_context) return;
    pass_.backend_.attention_scale(pass_.shape_, w_.state_total.end(),
                                   pass_.state_of(l_, piece.context));
  }

 private:
  TiledPass& pass_;
  StateSum* sum_;
  Work& w_;
  const Tile& tile_;
  const int l_;
  StateSum::Part part_;
};

}  // namespace m5::kernels
