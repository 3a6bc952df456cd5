// Backward, mirroring encoder_forward.cpp. Everything but the stages and the attention states is
// recomputed inside a block. Two sweeps per layer: the query half gives the gradient of the
// attention state, a sum over all rows; then the key half can run. A local convolution needs a
// third, because it reads the gradient of neighbouring rows.

#include <algorithm>
#include <cmath>
#include <cstring>

#include "nn/encoder_impl.hpp"

namespace m5 {

namespace {
// Gradient sums of one range of parameters [begin, end): parts in T, the total in double.
template <class T>
std::unique_ptr<OrderedSum<T>> sum_gradients(std::int64_t begin, std::int64_t end, double* gradient,
                                             int workers) {
  return std::make_unique<OrderedSum<T>>(end - begin, workers, [=](std::int64_t, const T* part) {
    for (std::int64_t i = begin; i < end; ++i) gradient[i] += static_cast<double>(part[i - begin]);
  });
}
}  // namespace

template <class T>
void Encoder<T>::Impl::backward(Pass& pass, const Objective& objective, double loss_scale,
                                double* gradient, T* log_probs) {
  const auto rows = static_cast<std::size_t>(pass.layout.rows * config.dim);
  pass.dx = kernels::Buffer<T>(backend, rows);
  if (max_conv_halo() > 0) pass.dx_other = kernels::Buffer<T>(backend, rows);
  pass.d_states =
      kernels::Buffer<T>(backend, static_cast<std::size_t>(pass.layout.contexts * pass.state_size));

  loss_sweep(pass, objective, loss_scale, gradient, log_probs);
  for (int l = config.layers - 1; l >= 0; --l) {
    if (l < config.layers - 1) {
      if (l % group_layers == group_layers - 1) recompute_stages(pass, l);
      query_backward_sweep(pass, l, gradient);
    }
    key_backward_sweep(pass, l, gradient);
    if (config.has_conv(l)) conv_backward_sweep(pass, l, gradient);
  }
  embed_backward_sweep(pass, gradient);
}

// The stages of the group of layers that ends with `last`, by the sweeps of forward, bit for bit.
// Only the states, kept from there, are left out. Forward has left the stages of the last group.
template <class T>
void Encoder<T>::Impl::recompute_stages(Pass& pass, int last) {
  if (group_layers == 1) return;  // none is missing
  pass.key_layers = 0;
  for (int l = last - group_layers + 1; l <= last; ++l) {
    if (config.has_conv(l)) conv_sweep(pass, l);
    if (l < last) layer_sweep(pass, l);
  }
}

// query_half and feed_forward of layer l on w.x, keeping what backward needs; w.x is left as it is.
template <class T>
void Encoder<T>::Impl::recompute(Work& w, int l, const T* state, int n) {
  using B = kernels::Backend<T>;
  const std::int64_t d = config.dim, stride = kKeyDim * config.heads;
  norm_rows(w.id, n, w.x.data(), offsets(l).attention_norm, w.h.data());
  backend.linear(w.id, *layer(l).query, n, w.h.data(), w.q_raw.data(), B::Then::kStore);
  backend.bound(w.id, shape, n, stride, w.q_raw.data(), w.q.data());
  backend.attention_query(w.id, shape, n, w.q.data(), stride, state, w.o.data(), w.weight.data());
  std::copy_n(w.x.data(), n * d, w.a.data());
  backend.linear(w.id, *layer(l).output, n, w.o.data(), w.a.data(), B::Then::kAdd);
  norm_rows(w.id, n, w.a.data(), offsets(l).ff_norm, w.h2.data());
  backend.linear(w.id, *layer(l).up, n, w.h2.data(), w.up_raw.data(), B::Then::kStore);
  backend.gelu(w.id, static_cast<std::int64_t>(n) * config.ff_dim, w.up_raw.data(), w.up.data());
}

template <class T>
void Encoder<T>::Impl::layer_backward(Work& w, int l, const T* state, int n, T* d,
                                      std::int64_t base, double* d_state) {
  const LayerOffsets& at = offsets(l);
  const int id = w.id, dim = config.dim, ff = config.ff_dim;
  const int query_columns = kKeyDim * config.heads;
  const auto grad = [&](std::int64_t offset) { return d + (offset - base); };
  // Feed-forward: out = a + W_2 gelu(W_1 norm(a) + b_1) + b_2.
  backend.linear_backward_weight(id, ff, dim, n, w.up.data(), w.dx.data(), grad(at.down_weight),
                                 grad(at.down_bias));
  backend.linear_backward_input(id, *layer(l).down, n, w.dx.data(), w.d_up.data(), false);
  backend.gelu_backward(id, static_cast<std::int64_t>(n) * ff, w.up_raw.data(), w.d_up.data(),
                        w.d_up.data());
  backend.linear_backward_weight(id, dim, ff, n, w.h2.data(), w.d_up.data(), grad(at.up_weight),
                                 grad(at.up_bias));
  backend.linear_backward_input(id, *layer(l).up, n, w.d_up.data(), w.dh.data(), false);
  backend.norm_backward(id, n, dim, config.norm_epsilon, w.a.data(), parameter(at.ff_norm),
                        w.dh.data(), w.dx.data(), grad(at.ff_norm));
  // Query half: a = x + W_o o + b_o.
  backend.linear_backward_weight(id, dim, dim, n, w.o.data(), w.dx.data(), grad(at.output_weight),
                                 grad(at.output_bias));
  backend.linear_backward_input(id, *layer(l).output, n, w.dx.data(), w.d_o.data(), false);
  backend.attention_query_backward(id, shape, n, w.q.data(), query_columns, state, w.o.data(),
                                   w.weight.data(), w.d_o.data(), w.du.data(), w.dq.data(),
                                   d_state);
  backend.bound_backward(id, shape, n, query_columns, w.q_raw.data(), w.dq.data(), w.dq.data());
  backend.linear_backward_weight(id, dim, query_columns, n, w.h.data(), w.dq.data(), grad(at.query),
                                 nullptr);
  backend.linear_backward_input(id, *layer(l).query, n, w.dq.data(), w.dh.data(), false);
  backend.norm_backward(id, n, dim, config.norm_epsilon, w.x.data(), parameter(at.attention_norm),
                        w.dh.data(), w.dx.data(), grad(at.attention_norm));
}

template <class T>
void Encoder<T>::Impl::logits_backward(Pass& pass, Work& w, const Objective& objective,
                                       std::int64_t first, int n, double scale, const T* log_probs,
                                       T* d_memory) {
  T* d = w.d_logits.data();
  for (std::int64_t i = 0; i < n; ++i) {
    const int target = objective.targets[static_cast<std::size_t>(first + i)];
    for (int b = 0; b < 4; ++b) {
      const T p = std::exp(log_probs[i * 4 + b]);
      d[i * 4 + b] = static_cast<T>(scale) * (p - (b == target ? T(1) : T(0)));
    }
  }
  if (config.memory.empty() || !pass.counts) return;
  mix.backward(w.id, backend, parameters.data(), n, w.memory, d, d_memory);
}

// log_probs: in, of the encoder; out, mixed.
template <class T>
void Encoder<T>::Impl::memory_sweep(Pass& pass, const Objective& objective, double loss_scale,
                                    double* gradient, T* log_probs) {
  auto gradients = sum_gradients<T>(table.encoder, table.total, gradient, backend.workers());
  for_tiles(pass, {gradients.get()}, [&](Work& w, const Tile& tile) {
    auto d_params = gradients->begin_part(pass.layout.index(tile));
    const auto [begin, end] = rows_of_tile(objective.rows, tile);
    for (std::int64_t at = begin; at < end; at += block) {
      const int n = static_cast<int>(std::min<std::int64_t>(block, end - at));
      mix_memory(pass, w,
                 std::span(objective.rows)
                     .subspan(static_cast<std::size_t>(at), static_cast<std::size_t>(n)),
                 log_probs + at * 4);
      logits_backward(pass, w, objective, at, n, loss_scale, log_probs + at * 4, d_params.get());
    }
    gradients->end_part(pass.layout.index(tile), std::move(d_params));
  });
}

// The last layer's query half forward, head, loss, and back again: only rows of the objective have
// a gradient there.
template <class T>
void Encoder<T>::Impl::loss_sweep(Pass& pass, const Objective& objective, double loss_scale,
                                  double* gradient, T* log_probs) {
  using B = kernels::Backend<T>;
  const int l = config.layers - 1, dim = config.dim;
  const std::int64_t d = dim, base = offsets(l).attention_norm;
  auto gradients = sum_gradients<T>(base, table.total, gradient,
                                    backend.workers());  // layer l, final norm, head
  auto states =
      pass.sum_states([&](std::int64_t c) { return pass.d_states.data() + c * pass.state_size; });
  for_tiles(pass, {gradients.get(), states.get()}, [&](Work& w, const Tile& tile) {
    auto d_params = gradients->begin_part(pass.layout.index(tile));
    auto d_state = states->begin_part(tile.shared);
    const auto grad = [&](std::int64_t offset) { return d_params.get() + (offset - base); };
    const T* state = pass.state(l, pass.layout.context(tile));
    std::fill_n(pass.dx.data() + tile.first_row * d, tile.rows * d, T(0));
    const auto [begin, end] = rows_of_tile(objective.rows, tile);
    for (std::int64_t at = begin; at < end; at += block) {
      const int n = static_cast<int>(std::min<std::int64_t>(block, end - at));
      const auto rows = std::span(objective.rows)
                            .subspan(static_cast<std::size_t>(at), static_cast<std::size_t>(n));
      pass.stage(l, true).gather(rows, w.x.data());
      recompute(w, l, state, n);
      // The layer's output goes where d_o will be; its norm where dh was free.
      T* out = w.d_o.data();
      T* normed = w.dh.data();
      std::copy_n(w.a.data(), n * d, out);
      backend.linear(w.id, *layer(l).down, n, w.up.data(), out, B::Then::kAdd);
      norm_rows(w.id, n, out, table.final_norm, normed);
      backend.head(w.id, n, dim, normed, parameter(table.head_weight), parameter(table.head_bias),
                   log_probs + at * 4);
      mix_memory(pass, w, rows, log_probs + at * 4);

      logits_backward(pass, w, objective, at, n, loss_scale, log_probs + at * 4,
                      grad(table.encoder));
      T* d_normed = w.du.data();  // [(dv+1) H] holds [d]
      backend.head_backward(w.id, n, dim, normed, parameter(table.head_weight), w.d_logits.data(),
                            d_normed, grad(table.head_weight), grad(table.head_bias));
      std::fill_n(w.dx.data(), n * d, T(0));
      backend.norm_backward(w.id, n, dim, config.norm_epsilon, out, parameter(table.final_norm),
                            d_normed, w.dx.data(), grad(table.final_norm));
      layer_backward(w, l, state, n, d_params.get(), base, d_state.get());
      for (int i = 0; i < n; ++i) {
        std::copy_n(w.dx.data() + i * d, d, pass.dx.data() + rows[static_cast<std::size_t>(i)] * d);
      }
    }
    gradients->end_part(pass.layout.index(tile), std::move(d_params));
    states->end_part(tile.shared, std::move(d_state));
  });
}

template <class T>
void Encoder<T>::Impl::query_backward_sweep(Pass& pass, int l, double* gradient) {
  const std::int64_t d = config.dim, base = offsets(l).attention_norm;
  auto gradients = sum_gradients<T>(base, offsets(l).end, gradient, backend.workers());
  auto states =
      pass.sum_states([&](std::int64_t c) { return pass.d_states.data() + c * pass.state_size; });
  for_tiles(pass, {gradients.get(), states.get()}, [&](Work& w, const Tile& tile) {
    auto d_params = gradients->begin_part(pass.layout.index(tile));
    auto d_state = states->begin_part(tile.shared);
    const T* state = pass.state(l, pass.layout.context(tile));
    for (TileBlocks b(pass.layout, tile, block); b.next();) {
      const int n = b.n;
      const std::int64_t row = (tile.first_row + b.start) * d;
      pass.stage(l, true).load(tile.first_row + b.start, n, w.x.data());
      std::copy_n(pass.dx.data() + row, n * d, w.dx.data());
      recompute(w, l, state, n);
      layer_backward(w, l, state, n, d_params.get(), base, d_state.get());
      std::copy_n(w.dx.data(), n * d, pass.dx.data() + row);
    }
    gradients->end_part(pass.layout.index(tile), std::move(d_params));
    states->end_part(tile.shared, std::move(d_state));
  });
}

template <class T>
void Encoder<T>::Impl::key_backward_sweep(Pass& pass, int l, double* gradient) {
  const LayerOffsets& at = offsets(l);
  const int dim = config.dim, columns = (kKeyDim + config.value_dim()) * config.heads;
  const std::int64_t d = dim, base = at.key_value, values = kKeyDim * config.heads;
  auto gradients =
      sum_gradients<T>(base, at.query, gradient, backend.workers());  // key_value, attention_norm
  for_tiles(pass, {gradients.get()}, [&](Work& w, const Tile& tile) {
    auto d_params = gradients->begin_part(pass.layout.index(tile));
    const auto grad = [&](std::int64_t offset) { return d_params.get() + (offset - base); };
    const T* d_state = pass.d_states.data() + pass.layout.context(tile) * pass.state_size;
    for (TileBlocks b(pass.layout, tile, block); b.next();) {
      const int n = b.n;
      const std::int64_t row = (tile.first_row + b.start) * d;
      pass.stage(l, true).load(tile.first_row + b.start, n, w.x.data());
      norm_rows(w.id, n, w.x.data(), at.attention_norm, w.h.data());
      backend.linear(w.id, *layer(l).key_value, n, w.h.data(), w.kv_raw.data(),
                     kernels::Backend<T>::Then::kStore);
      backend.bound(w.id, shape, n, columns, w.kv_raw.data(), w.kv.data());
      backend.attention_accumulate_backward(w.id, shape, n, w.kv.data(), columns,
                                            w.kv_raw.data() + values, columns, d_state,
                                            w.dkv.data(), w.dkv.data() + values);
      backend.bound_backward(w.id, shape, n, columns, w.kv_raw.data(), w.dkv.data(), w.dkv.data());
      backend.linear_backward_weight(w.id, dim, columns, n, w.h.data(), w.dkv.data(),
                                     grad(at.key_value), nullptr);
      backend.linear_backward_input(w.id, *layer(l).key_value, n, w.dkv.data(), w.dh.data(), false);
      backend.norm_backward(w.id, n, dim, config.norm_epsilon, w.x.data(),
                            parameter(at.attention_norm), w.dh.data(), pass.dx.data() + row,
                            grad(at.attention_norm));
    }
    gradients->end_part(pass.layout.index(tile), std::move(d_params));
  });
}

// y = x + conv(norm(x)): dx = dy + norm_backward(conv^T dy).
template <class T>
void Encoder<T>::Impl::conv_backward_sweep(Pass& pass, int l, double* gradient) {
  const LayerOffsets& at = offsets(l);
  const LocalConv& conv = config.local_conv[static_cast<std::size_t>(l)];
  const int dim = config.dim;
  const std::int64_t d = dim, halo = conv_halo(l), base = at.conv_norm;
  auto gradients =
      sum_gradients<T>(base, at.key_value, gradient, backend.workers());  // conv norm and weight
  for_tiles(pass, {gradients.get()}, [&](Work& w, const Tile& tile) {
    auto d_params = gradients->begin_part(pass.layout.index(tile));
    const auto grad = [&](std::int64_t offset) { return d_params.get() + (offset - base); };
    const Piece& piece = pass.layout.piece(tile.first_piece);  // training packs nothing
    const T* sequence_dx = pass.dx.data() + (tile.first_row - piece.offset) * d;
    for (TileBlocks b(pass.layout, tile, block); b.next();) {
      const int n = b.n;
      const std::int64_t row = (tile.first_row + b.start) * d;
      const T* dy = pass.dx.data() + row;
      fill_conv_window(pass, w, b.parts[0], l);
      backend.local_conv_backward_weight(w.id, n, dim, conv.width, conv.dilation, w.window.data(),
                                         dy, grad(at.conv_weight));
      for (std::int64_t i = 0; i < n + 2 * halo; ++i) {
        const std::int64_t position = wrap(pass.batch[static_cast<std::size_t>(piece.sequence)],
                                           piece.offset + b.start - halo + i);
        T* out = w.d_window.data() + i * d;
        if (position < 0) {
          std::fill_n(out, d, T(0));
        } else {
          std::copy_n(sequence_dx + position * d, d, out);
        }
      }
      std::fill_n(w.dh.data(), n * d, T(0));
      backend.local_conv(w.id, n, dim, conv.width, conv.dilation, w.d_window.data(),
                         parameter(at.conv_weight), true, w.dh.data());
      T* dx = pass.dx_other.data() + row;
      std::copy_n(dy, n * d, dx);
      backend.norm_backward(w.id, n, dim, config.norm_epsilon, pass.stage(l, false).data() + row,
                            parameter(at.conv_norm), w.dh.data(), dx, grad(at.conv_norm));
    }
    gradients->end_part(pass.layout.index(tile), std::move(d_params));
  });
  std::swap(pass.dx, pass.dx_other);
}

template <class T>
void Encoder<T>::Impl::embed_backward_sweep(Pass& pass, double* gradient) {
  const std::int64_t d = config.dim;
  // embedding.weight and embedding.bias open the slab, side by side.
  auto gradients =
      sum_gradients<T>(table.embedding, table.embedding_bias + d, gradient, backend.workers());
  for_tiles(pass, {gradients.get()}, [&](Work& w, const Tile& tile) {
    auto d_params = gradients->begin_part(pass.layout.index(tile));
    for (TileBlocks b(pass.layout, tile, block); b.next();) {
      const int n = b.n;
      token_window(pass, w, b.parts[0]);
      backend.embed_backward(w.id, n, config.dim, config.window, w.tokens.data(),
                             pass.dx.data() + (tile.first_row + b.start) * d, d_params.get(),
                             d_params.get() + (table.embedding_bias - table.embedding));
    }
    gradients->end_part(pass.layout.index(tile), std::move(d_params));
  });
}

template struct Encoder<float>::Impl;
template struct Encoder<double>::Impl;

}  // namespace m5
