// Forward: the pieces of a layer on a block of rows, and the sweeps that call them over all tiles.

#include <algorithm>
#include <cstring>

#include "nn/encoder_impl.hpp"

namespace m5 {

// --- pieces of a layer, on the block in w.x

template <class T>
void Encoder<T>::Impl::norm_rows(int worker, int n, const T* x, std::int64_t gain, T* y) {
  backend.norm(worker, n, config.dim, config.norm_epsilon, x, parameter(gain), y);
}

// x += W_o attention(norm(x)), the state given.
template <class T>
void Encoder<T>::Impl::query_half(Work& w, int l, const T* state, int n) {
  using B = kernels::Backend<T>;
  const int id = w.id, stride = kKeyDim * config.heads;
  norm_rows(id, n, w.x.data(), offsets(l).attention_norm, w.h.data());
  backend.linear(id, *layer(l).query, n, w.h.data(), w.q.data(), B::Then::kStore);
  backend.bound(id, shape, n, stride, w.q.data(), w.q.data());
  backend.attention_query(id, shape, n, w.q.data(), stride, state, w.o.data(), w.weight.data());
  backend.linear(id, *layer(l).output, n, w.o.data(), w.x.data(), B::Then::kAdd);
}

// x += W_2 gelu(W_1 norm(x) + b_1) + b_2.
template <class T>
void Encoder<T>::Impl::feed_forward(Work& w, int l, int n) {
  using B = kernels::Backend<T>;
  norm_rows(w.id, n, w.x.data(), offsets(l).ff_norm, w.h.data());
  backend.linear(w.id, *layer(l).up, n, w.h.data(), w.up.data(), B::Then::kGelu);
  backend.linear(w.id, *layer(l).down, n, w.up.data(), w.x.data(), B::Then::kAdd);
}

// S_l += phi(k)^T [v, 1].
template <class T>
void Encoder<T>::Impl::key_half(Work& w, int l, int n, double* state) {
  const std::int64_t stride = (kKeyDim + config.value_dim()) * config.heads;
  norm_rows(w.id, n, w.x.data(), offsets(l).attention_norm, w.h.data());
  backend.linear(w.id, *layer(l).key_value, n, w.h.data(), w.kv.data(),
                 kernels::Backend<T>::Then::kStore);
  backend.bound(w.id, shape, n, stride, w.kv.data(), w.kv.data());
  backend.attention_accumulate(w.id, shape, n, w.kv.data(), stride,
                               w.kv.data() + kKeyDim * config.heads, stride, true, state);
}

// --- windows over neighbouring rows

template <class T>
void Encoder<T>::Impl::token_window(Pass& pass, Work& w, const Tile& tile, int start, int n) {
  const TokenView& sequence = pass.batch[static_cast<std::size_t>(tile.sequence)];
  const std::int64_t from = tile.offset + start - config.window;
  for (int i = 0; i < n + 2 * config.window; ++i) {
    const std::int64_t position = wrap(sequence, from + i);
    w.tokens[static_cast<std::size_t>(i)] = position < 0 ? kTokenPad : sequence.tokens[position];
  }
}

// Inference updates the residual stream in place, while the convolutions of the neighbouring tiles
// still need this tile's old edges: its first and last rows are kept, normed.
template <class T>
void Encoder<T>::Impl::save_halo(Pass& pass, int worker, std::int64_t t, int l) {
  if (training || l >= pass.key_layers || conv_halo(l) == 0) return;
  const Tile& tile = pass.layout.tiles[static_cast<std::size_t>(t)];
  const std::int64_t d = config.dim, stride = pass.halo_stride * d;
  const int rows = std::min(conv_halo(l), tile.rows);
  const T* x = pass.stage(l, false) + tile.first_row * d;
  T* first = pass.halos.data() + 2 * t * stride;
  norm_rows(worker, rows, x, offsets(l).conv_norm, first);
  norm_rows(worker, rows, x + (tile.rows - rows) * d, offsets(l).conv_norm, first + stride);
}

// w.window = norm(x) of rows start-halo .. start+n+halo of the tile; zero outside a linear
// sequence. Blocks of a tile come in order: the first 2 halo rows are the last ones of the block
// before.
template <class T>
void Encoder<T>::Impl::fill_conv_window(Pass& pass, int worker, const Tile& tile, int l, int start,
                                        int n) {
  const TokenView& sequence = pass.batch[static_cast<std::size_t>(tile.sequence)];
  const std::int64_t d = config.dim, halo = conv_halo(l);
  T* window = work(worker).window.data();
  std::int64_t i = 0;
  if (start > 0) {
    std::memmove(window, window + block * d, static_cast<std::size_t>(2 * halo * d) * sizeof(T));
    i = 2 * halo;
  }
  const std::int64_t from = tile.offset + start - halo, end = n + 2 * halo;
  const std::int64_t sequence_row = tile.first_row - tile.offset;
  const T* x = pass.stage(l, false);
  while (i < end) {
    const std::int64_t u = from + i, position = wrap(sequence, u);
    T* out = window + i * d;
    std::int64_t run = 1;
    if (position < 0) {
      std::fill_n(out, d, T(0));
    } else if (u >= tile.offset && u < tile.offset + tile.rows) {
      run = std::min(end - i, tile.offset + tile.rows - u);
      norm_rows(worker, static_cast<int>(run), x + (sequence_row + u) * d, offsets(l).conv_norm,
                out);
    } else if (training) {
      norm_rows(worker, 1, x + (sequence_row + position) * d, offsets(l).conv_norm, out);
    } else {
      const std::int64_t t = pass.layout.first_tile[static_cast<std::size_t>(tile.sequence)] +
                             position / kernels::kTileRows;
      const Tile& other = pass.layout.tiles[static_cast<std::size_t>(t)];
      const std::int64_t in_tile = position % kernels::kTileRows,
                         kept = std::min<std::int64_t>(halo, other.rows);
      const T* saved = pass.halos.data() + 2 * t * pass.halo_stride * d;
      saved +=
          in_tile < kept ? in_tile * d : (pass.halo_stride + in_tile - (other.rows - kept)) * d;
      std::copy_n(saved, d, out);
    }
    i += run;
  }
}

// --- sweeps

template <class T>
void Encoder<T>::Impl::embed_sweep(Pass& pass) {
  const std::int64_t d = config.dim;
  const bool conv = config.has_conv(0), keys = pass.key_layers > 0 && !conv;
  auto sum = keys ? pass.sum_states([&](std::int64_t context) { return pass.state(0, context); })
                  : nullptr;
  backend.for_tiles(
      static_cast<std::int64_t>(pass.layout.tiles.size()), [&](int worker, std::int64_t t) {
        const Tile& tile = pass.layout.tiles[static_cast<std::size_t>(t)];
        Work& w = work(worker);
        auto part = keys ? sum->begin_part(t) : nullptr;
        for (int start = 0; start < tile.rows; start += block) {
          const int n = std::min(block, tile.rows - start);
          token_window(pass, w, tile, start, n);
          backend.embed(worker, n, config.dim, config.window, w.tokens.data(),
                        parameter(table.embedding), parameter(table.embedding_bias), w.x.data());
          std::copy_n(w.x.data(), n * d, pass.stage(0, !conv) + (tile.first_row + start) * d);
          if (keys) key_half(w, 0, n, part.get());
        }
        save_halo(pass, worker, t, 0);
        if (keys) sum->end_part(t, std::move(part));
      });
}

template <class T>
void Encoder<T>::Impl::conv_sweep(Pass& pass, int l) {
  const std::int64_t d = config.dim;
  const LocalConv& conv = config.local_conv[static_cast<std::size_t>(l)];
  const bool keys = l < pass.key_layers;
  auto sum = keys ? pass.sum_states([&](std::int64_t context) { return pass.state(l, context); })
                  : nullptr;
  backend.for_tiles(
      static_cast<std::int64_t>(pass.layout.tiles.size()), [&](int worker, std::int64_t t) {
        const Tile& tile = pass.layout.tiles[static_cast<std::size_t>(t)];
        Work& w = work(worker);
        auto part = keys ? sum->begin_part(t) : nullptr;
        for (int start = 0; start < tile.rows; start += block) {
          const int n = std::min(block, tile.rows - start);
          const std::int64_t row = (tile.first_row + start) * d;
          fill_conv_window(pass, worker, tile, l, start, n);
          std::copy_n(pass.stage(l, false) + row, n * d, w.x.data());
          backend.local_conv(worker, n, config.dim, conv.width, conv.dilation, w.window.data(),
                             parameter(offsets(l).conv_weight), false, w.x.data());
          std::copy_n(w.x.data(), n * d, pass.stage(l, true) + row);
          if (keys) key_half(w, l, n, part.get());
        }
        if (keys) sum->end_part(t, std::move(part));
      });
}

template <class T>
void Encoder<T>::Impl::layer_sweep(Pass& pass, int l) {
  const std::int64_t d = config.dim;
  const bool last = l + 1 == config.layers, conv = !last && config.has_conv(l + 1);
  const bool keys = l + 1 < pass.key_layers && !conv;
  auto sum = keys
                 ? pass.sum_states([&](std::int64_t context) { return pass.state(l + 1, context); })
                 : nullptr;
  backend.for_tiles(static_cast<std::int64_t>(pass.layout.tiles.size()), [&](int worker,
                                                                             std::int64_t t) {
    const Tile& tile = pass.layout.tiles[static_cast<std::size_t>(t)];
    Work& w = work(worker);
    auto part = keys ? sum->begin_part(t) : nullptr;
    for (int start = 0; start < tile.rows; start += block) {
      const int n = std::min(block, tile.rows - start);
      const std::int64_t row = (tile.first_row + start) * d;
      std::copy_n(pass.stage(l, true) + row, n * d, w.x.data());
      query_half(w, l, pass.state(l, tile.context), n);
      feed_forward(w, l, n);
      std::copy_n(w.x.data(), n * d, (last ? pass.stage(l, true) : pass.stage(l + 1, !conv)) + row);
      if (keys) key_half(w, l + 1, n, part.get());
    }
    save_halo(pass, worker, t, l + 1);
    if (keys) sum->end_part(t, std::move(part));
  });
}

// Runs `whole` layers, and with next_keys the key half (and its convolution) of the one after them.
template <class T>
void Encoder<T>::Impl::run(Pass& pass, int whole, bool next_keys) {
  pass.key_layers = whole + next_keys;
  embed_sweep(pass);
  for (int l = 0; l < pass.key_layers; ++l) {
    if (config.has_conv(l)) conv_sweep(pass, l);
    if (l < whole) layer_sweep(pass, l);
  }
}

template <class T>
std::pair<std::int64_t, std::int64_t> Encoder<T>::Impl::rows_of_tile(
    std::span<const std::int64_t> rows, const Tile& tile) {
  const auto begin = std::lower_bound(rows.begin(), rows.end(), tile.first_row);
  const auto end = std::lower_bound(begin, rows.end(), tile.first_row + tile.rows);
  return {begin - rows.begin(), end - rows.begin()};
}

template <class T>
void Encoder<T>::Impl::gather(const T* x, std::span<const std::int64_t> rows, T* out) const {
  for (std::size_t i = 0; i < rows.size(); ++i) {
    std::copy_n(x + rows[i] * config.dim, config.dim,
                out + static_cast<std::int64_t>(i) * config.dim);
  }
}

// The last query half and feed-forward touch no other row: only the rows asked for take part.
template <class T>
void Encoder<T>::Impl::last_layer_log_probs(Pass& pass, std::span<const std::int64_t> rows,
                                            T* log_probs) {
  const int l = config.layers - 1;
  backend.for_tiles(static_cast<std::int64_t>(pass.layout.tiles.size()), [&](int worker,
                                                                             std::int64_t t) {
    const Tile& tile = pass.layout.tiles[static_cast<std::size_t>(t)];
    Work& w = work(worker);
    const auto [begin, end] = rows_of_tile(rows, tile);
    for (std::int64_t at = begin; at < end; at += block) {
      const int n = static_cast<int>(std::min<std::int64_t>(block, end - at));
      gather(pass.stage(l, true),
             rows.subspan(static_cast<std::size_t>(at), static_cast<std::size_t>(n)), w.x.data());
      query_half(w, l, pass.state(l, tile.context), n);
      feed_forward(w, l, n);
      norm_rows(worker, n, w.x.data(), table.final_norm, w.h.data());
      backend.head(worker, n, config.dim, w.h.data(), parameter(table.head_weight),
                   parameter(table.head_bias), log_probs + at * 4);
    }
  });
}

template struct Encoder<float>::Impl;
template struct Encoder<double>::Impl;

}  // namespace m5
