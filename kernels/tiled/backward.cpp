// Backward, mirroring forward.cpp. Everything but the stages and the attention states is recomputed
// inside a block. Two sweeps per layer: the query half gives the gradient of the attention state, a
// sum over all rows; then the key half can run. A local convolution needs a third, because it reads
// the gradient of neighbouring rows.

#include <algorithm>

#include "kernels/tiled/tiled_pass.hpp"

namespace m5::kernels {

template <class T>
void TiledPass<T>::begin_backward(double* gradient) {
  const auto values = static_cast<std::size_t>(layout_.rows * config_.dim);
  gradient_ = gradient;
  dx_ = Buffer<T>(backend_, values);
  if (max_conv_halo(config_) > 0) dx_other_ = Buffer<T>(backend_, values);
  d_states_ = Buffer<T>(backend_, static_cast<std::size_t>(layout_.contexts * state_size_));
}

template <class T>
std::unique_ptr<OrderedSum<T>> TiledPass<T>::sum_gradients(std::int64_t begin, std::int64_t end) {
  const auto add = [gradient = gradient_, begin, end](std::int64_t, const T* part) {
    for (std::int64_t i = begin; i < end; ++i) gradient[i] += static_cast<double>(part[i - begin]);
  };
  return std::make_unique<OrderedSum<T>>(end - begin, backend_.workers(), add);
}

// query_half and feed_forward of layer l on w.x, keeping what backward needs; w.x is left as it is.
template <class T>
void TiledPass<T>::recompute(Work& w, int l, const T* state, int n) {
  using Then = typename Backend<T>::Then;
  const std::int64_t d = config_.dim, stride = kKeyDim * config_.heads;
  norm_rows(w.id, n, w.x.data(), offsets(l).attention_norm, w.h.data());
  backend_.linear(w.id, *weights(l).query, n, w.h.data(), w.q_raw.data(), Then::kStore);
  backend_.bound(w.id, shape_, n, stride, w.q_raw.data(), w.q.data());
  backend_.attention_query(w.id, shape_, n, w.q.data(), stride, state, w.o.data(), w.weight.data());
  std::copy_n(w.x.data(), n * d, w.a.data());
  backend_.linear(w.id, *weights(l).output, n, w.o.data(), w.a.data(), Then::kAdd);
  norm_rows(w.id, n, w.a.data(), offsets(l).ff_norm, w.h2.data());
  backend_.linear(w.id, *weights(l).up, n, w.h2.data(), w.up_raw.data(), Then::kStore);
  backend_.gelu(w.id, static_cast<std::int64_t>(n) * config_.ff_dim, w.up_raw.data(), w.up.data());
}

template <class T>
void TiledPass<T>::layer_backward(Work& w, int l, const T* state, int n, T* d, std::int64_t base,
                                  double* d_state) {
  const LayerOffsets& at = offsets(l);
  const int id = w.id, dim = config_.dim, ff = config_.ff_dim;
  const int query_columns = kKeyDim * config_.heads;
  const auto grad = [&](std::int64_t offset) { return d + (offset - base); };
  // Feed-forward: out = a + W_2 gelu(W_1 norm(a) + b_1) + b_2.
  backend_.linear_backward_weight(id, ff, dim, n, w.up.data(), w.dx.data(), grad(at.down_weight),
                                  grad(at.down_bias));
  backend_.linear_backward_input(id, *weights(l).down, n, w.dx.data(), w.d_up.data(), false);
  backend_.gelu_backward(id, static_cast<std::int64_t>(n) * ff, w.up_raw.data(), w.d_up.data(),
                         w.d_up.data());
  backend_.linear_backward_weight(id, dim, ff, n, w.h2.data(), w.d_up.data(), grad(at.up_weight),
                                  grad(at.up_bias));
  backend_.linear_backward_input(id, *weights(l).up, n, w.d_up.data(), w.dh.data(), false);
  backend_.norm_backward(id, n, dim, config_.norm_epsilon, w.a.data(), parameter(at.ff_norm),
                         w.dh.data(), w.dx.data(), grad(at.ff_norm));
  // Query half: a = x + W_o o + b_o.
  backend_.linear_backward_weight(id, dim, dim, n, w.o.data(), w.dx.data(), grad(at.output_weight),
                                  grad(at.output_bias));
  backend_.linear_backward_input(id, *weights(l).output, n, w.dx.data(), w.d_o.data(), false);
  backend_.attention_query_backward(id, shape_, n, w.q.data(), query_columns, state, w.o.data(),
                                    w.weight.data(), w.d_o.data(), w.du.data(), w.dq.data(),
                                    d_state);
  backend_.bound_backward(id, shape_, n, query_columns, w.q_raw.data(), w.dq.data(), w.dq.data());
  backend_.linear_backward_weight(id, dim, query_columns, n, w.h.data(), w.dq.data(),
                                  grad(at.query), nullptr);
  backend_.linear_backward_input(id, *weights(l).query, n, w.dq.data(), w.dh.data(), false);
  backend_.norm_backward(id, n, dim, config_.norm_epsilon, w.x.data(), parameter(at.attention_norm),
                         w.dh.data(), w.dx.data(), grad(at.attention_norm));
}

// The last layer's query half forward, head, loss, and back again: only rows of the objective have
// a gradient there.
template <class T>
void TiledPass<T>::head_backward(int in, std::span<const std::int64_t> rows, T* log_probs,
                                 const LossRows<T>& loss, double* gradient) {
  using Then = typename Backend<T>::Then;
  const int l = config_.layers - 1, dim = config_.dim;
  const std::int64_t d = dim, base = offsets(l).attention_norm;
  begin_backward(gradient);
  auto gradients = sum_gradients(base, table_.total);  // layer l, final norm, head, the rest
  auto states = sum_d_states();
  for_tiles({gradients.get(), states.get()}, [&](Work& w, const Tile& tile) {
    auto d_params = gradients->begin_part(layout_.index(tile));
    auto d_state = states->begin_part(tile.shared);
    const auto grad = [&](std::int64_t offset) { return d_params.get() + (offset - base); };
    const T* state = state_of(l, layout_.context(tile));
    std::fill_n(dx_.data() + tile.first_row * d, tile.rows * d, T(0));
    const auto [begin, end] = rows_of_tile(rows, tile);
    for (std::int64_t at = begin; at < end; at += block_) {
      const int n = static_cast<int>(std::min<std::int64_t>(block_, end - at));
      const auto some = rows.subspan(static_cast<std::size_t>(at), static_cast<std::size_t>(n));
      stage(in).gather(some, w.x.data());
      recompute(w, l, state, n);
      // The layer's output goes where d_o will be; its norm where dh was free.
      T* out = w.d_o.data();
      T* normed = w.dh.data();
      std::copy_n(w.a.data(), n * d, out);
      backend_.linear(w.id, *weights(l).down, n, w.up.data(), out, Then::kAdd);
      norm_rows(w.id, n, out, table_.final_norm, normed);
      backend_.head(w.id, n, dim, normed, parameter(table_.head_weight),
                    parameter(table_.head_bias), log_probs + at * 4);
      loss(w.id, at, n, log_probs + at * 4, w.d_logits.data(), grad(table_.encoder));

      T* d_normed = w.du.data();  // [(dv+1) H] holds [d]
      backend_.head_backward(w.id, n, dim, normed, parameter(table_.head_weight), w.d_logits.data(),
                             d_normed, grad(table_.head_weight), grad(table_.head_bias));
      std::fill_n(w.dx.data(), n * d, T(0));
      backend_.norm_backward(w.id, n, dim, config_.norm_epsilon, out, parameter(table_.final_norm),
                             d_normed, w.dx.data(), grad(table_.final_norm));
      layer_backward(w, l, state, n, d_params.get(), base, d_state.get());
      for (int i = 0; i < n; ++i) {
        std::copy_n(w.dx.data() + i * d, d, dx_.data() + some[static_cast<std::size_t>(i)] * d);
      }
    }
    gradients->end_part(layout_.index(tile), std::move(d_params));
    states->end_part(tile.shared, std::move(d_state));
  });
}

template <class T>
void TiledPass<T>::query_backward(int l, int in) {
  const std::int64_t d = config_.dim, base = offsets(l).attention_norm;
  auto gradients = sum_gradients(base, offsets(l).end);
  auto states = sum_d_states();
  for_tiles({gradients.get(), states.get()}, [&](Work& w, const Tile& tile) {
    auto d_params = gradients->begin_part(layout_.index(tile));
    auto d_state = states->begin_part(tile.shared);
    const T* state = state_of(l, layout_.context(tile));
    for (TileBlocks b(layout_, tile, block_); b.next();) {
      const int n = b.n;
      const std::int64_t row = (tile.first_row + b.start) * d;
      stage(in).load(tile.first_row + b.start, n, w.x.data());
      std::copy_n(dx_.data() + row, n * d, w.dx.data());
      recompute(w, l, state, n);
      layer_backward(w, l, state, n, d_params.get(), base, d_state.get());
      std::copy_n(w.dx.data(), n * d, dx_.data() + row);
    }
    gradients->end_part(layout_.index(tile), std::move(d_params));
    states->end_part(tile.shared, std::move(d_state));
  });
}

template <class T>
void TiledPass<T>::key_backward(int l, int in) {
  const LayerOffsets& at = offsets(l);
  const int dim = config_.dim, columns = (kKeyDim + config_.value_dim()) * config_.heads;
  const std::int64_t d = dim, base = at.key_value, values = kKeyDim * config_.heads;
  auto gradients = sum_gradients(base, at.query);  // key_value, attention_norm
  for_tiles({gradients.get()}, [&](Work& w, const Tile& tile) {
    auto d_params = gradients->begin_part(layout_.index(tile));
    const auto grad = [&](std::int64_t offset) { return d_params.get() + (offset - base); };
    const T* d_state = d_state_of(layout_.context(tile));
    for (TileBlocks b(layout_, tile, block_); b.next();) {
      const int n = b.n;
      const std::int64_t row = (tile.first_row + b.start) * d;
      stage(in).load(tile.first_row + b.start, n, w.x.data());
      norm_rows(w.id, n, w.x.data(), at.attention_norm, w.h.data());
      backend_.linear(w.id, *weights(l).key_value, n, w.h.data(), w.kv_raw.data(),
                      Backend<T>::Then::kStore);
      backend_.bound(w.id, shape_, n, columns, w.kv_raw.data(), w.kv.data());
      backend_.attention_accumulate_backward(w.id, shape_, n, w.kv.data(), columns,
                                             w.kv_raw.data() + values, columns, d_state,
                                             w.dkv.data(), w.dkv.data() + values);
      backend_.bound_backward(w.id, shape_, n, columns, w.kv_raw.data(), w.dkv.data(),
                              w.dkv.data());
      backend_.linear_backward_weight(w.id, dim, columns, n, w.h.data(), w.dkv.data(),
                                      grad(at.key_value), nullptr);
      backend_.linear_backward_input(w.id, *weights(l).key_value, n, w.dkv.data(), w.dh.data(),
                                     false);
      backend_.norm_backward(w.id, n, dim, config_.norm_epsilon, w.x.data(),
                             parameter(at.attention_norm), w.dh.data(), dx_.data() + row,
                             grad(at.attention_norm));
    }
    gradients->end_part(layout_.index(tile), std::move(d_params));
  });
}

// y = x + conv(norm(x)): dx = dy + norm_backward(conv^T dy).
template <class T>
void TiledPass<T>::convolve_backward(int l, int in) {
  const LayerOffsets& at = offsets(l);
  const LocalConv& conv = config_.local_conv[static_cast<std::size_t>(l)];
  const int dim = config_.dim;
  const std::int64_t d = dim, halo = conv_halo(config_, l), base = at.conv_norm;
  auto gradients = sum_gradients(base, at.key_value);  // conv norm and weight
  for_tiles({gradients.get()}, [&](Work& w, const Tile& tile) {
    auto d_params = gradients->begin_part(layout_.index(tile));
    const auto grad = [&](std::int64_t offset) { return d_params.get() + (offset - base); };
    const Piece& piece = layout_.piece(tile.first_piece);  // training packs nothing
    const T* sequence_dx = dx_.data() + (tile.first_row - piece.offset) * d;
    for (TileBlocks b(layout_, tile, block_); b.next();) {
      const int n = b.n;
      const std::int64_t row = (tile.first_row + b.start) * d;
      const T* dy = dx_.data() + row;
      fill_conv_window(w, b.parts[0], l, stage(in));
      backend_.local_conv_backward_weight(w.id, n, dim, conv.width, conv.dilation, w.window.data(),
                                          dy, grad(at.conv_weight));
      for (std::int64_t i = 0; i < n + 2 * halo; ++i) {
        const std::int64_t position = wrap(batch_[static_cast<std::size_t>(piece.sequence)],
                                           piece.offset + b.start - halo + i);
        T* out = w.d_window.data() + i * d;
        if (position < 0) {
          std::fill_n(out, d, T(0));
        } else {
          std::copy_n(sequence_dx + position * d, d, out);
        }
      }
      std::fill_n(w.dh.data(), n * d, T(0));
      backend_.local_conv(w.id, n, dim, conv.width, conv.dilation, w.d_window.data(),
                          parameter(at.conv_weight), true, w.dh.data());
      T* dx = dx_other_.data() + row;
      std::copy_n(dy, n * d, dx);
      backend_.norm_backward(w.id, n, dim, config_.norm_epsilon, stage(in).data() + row,
                             parameter(at.conv_norm), w.dh.data(), dx, grad(at.conv_norm));
    }
    gradients->end_part(layout_.index(tile), std::move(d_params));
  });
  std::swap(dx_, dx_other_);
}

template <class T>
void TiledPass<T>::embed_backward() {
  const std::int64_t d = config_.dim;
  // embedding.weight and embedding.bias open the slab, side by side.
  auto gradients = sum_gradients(table_.embedding, table_.embedding_bias + d);
  for_tiles({gradients.get()}, [&](Work& w, const Tile& tile) {
    auto d_params = gradients->begin_part(layout_.index(tile));
    for (TileBlocks b(layout_, tile, block_); b.next();) {
      const int n = b.n;
      token_window(w, b.parts[0]);
      backend_.embed_backward(w.id, n, config_.dim, config_.window, w.tokens.data(),
                              dx_.data() + (tile.first_row + b.start) * d, d_params.get(),
                              d_params.get() + (table_.embedding_bias - table_.embedding));
    }
    gradients->end_part(layout_.index(tile), std::move(d_params));
  });
}

template class TiledPass<float>;
template class TiledPass<double>;

}  // namespace m5::kernels
