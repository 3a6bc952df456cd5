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

// x += W_o attention(norm(x)), the states of the parts' contexts given.
template <class T>
void Encoder<T>::Impl::query_half(Pass& pass, Work& w, int l, int n, std::span<const Part> parts) {
  using B = kernels::Backend<T>;
  const int id = w.id;
  const std::int64_t stride = kKeyDim * config.heads;
  norm_rows(id, n, w.x.data(), offsets(l).attention_norm, w.h.data());
  backend.linear(id, *layer(l).query, n, w.h.data(), w.q.data(), B::Then::kStore);
  backend.bound(id, shape, n, stride, w.q.data(), w.q.data());
  for (const Part& part : parts) {
    const std::int64_t row = part.start;
    backend.attention_query(id, shape, part.n, w.q.data() + row * stride, stride,
                            pass.state(l, pass.layout.piece(part.piece).context),
                            w.o.data() + row * config.dim, w.weight.data() + row * config.heads);
  }
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

// S_l += phi(k)^T [v, 1], by pieces.
template <class T>
void Encoder<T>::Impl::key_half(Work& w, int l, const TileBlocks& block, TileStates& states) {
  const int n = block.n;
  const std::int64_t stride = (kKeyDim + config.value_dim()) * config.heads;
  norm_rows(w.id, n, w.x.data(), offsets(l).attention_norm, w.h.data());
  backend.linear(w.id, *layer(l).key_value, n, w.h.data(), w.kv.data(),
                 kernels::Backend<T>::Then::kStore);
  backend.bound(w.id, shape, n, stride, w.kv.data(), w.kv.data());
  for (const Part& part : block.parts) {
    const T* kv = w.kv.data() + part.start * stride;
    backend.attention_accumulate(w.id, shape, part.n, kv, stride, kv + kKeyDim * config.heads,
                                 stride, true, states.begin(part));
    states.end(part);
  }
}

// --- windows over neighbouring rows

template <class T>
void Encoder<T>::Impl::token_window(Pass& pass, Work& w, const Part& part) {
  const Piece& piece = pass.layout.piece(part.piece);
  const TokenView& sequence = pass.batch[static_cast<std::size_t>(piece.sequence)];
  const std::int64_t from = piece.offset + part.offset - config.window;
  for (int i = 0; i < part.n + 2 * config.window; ++i) {
    const std::int64_t position = wrap(sequence, from + i);
    w.tokens[static_cast<std::size_t>(i)] = position < 0 ? kTokenPad : sequence.tokens[position];
  }
}

// Inference updates the residual stream in place, while the convolutions of the neighbouring pieces
// still need this piece's old edges: its first and last rows are kept, normed.
template <class T>
void Encoder<T>::Impl::save_halos(Pass& pass, Work& w, const Tile& tile, int l) {
  if (training || l >= pass.key_layers || conv_halo(l) == 0) return;
  const std::int64_t d = config.dim, stride = pass.halo_stride * d;
  for (std::int64_t i = tile.first_piece; i < tile.end_piece; ++i) {
    const Piece& piece = pass.layout.piece(i);
    const int rows = std::min(conv_halo(l), piece.rows);
    T* first = pass.halos.data() + 2 * i * stride;
    load_normed(pass, w, l, piece.first_row, rows, first);
    load_normed(pass, w, l, piece.first_row + piece.rows - rows, rows, first + stride);
  }
}

// y = norm(x) of rows of the batch, ahead of the convolution of layer l.
template <class T>
void Encoder<T>::Impl::load_normed(Pass& pass, Work& w, int l, std::int64_t row, std::int64_t n,
                                   T* y) {
  for (std::int64_t at = 0; at < n; at += block) {
    const auto rows = static_cast<int>(std::min<std::int64_t>(block, n - at));
    const T* x = pass.stage(l, false).read(row + at, rows, w.h.data());
    norm_rows(w.id, rows, x, offsets(l).conv_norm, y + at * config.dim);
  }
}

// w.window = norm(x) of the part's rows and a halo on both sides; zero outside a linear sequence.
// Parts of a piece come in order: the first 2 halo rows are the last ones of the part before.
template <class T>
void Encoder<T>::Impl::fill_conv_window(Pass& pass, Work& w, const Part& part, int l) {
  const Piece& piece = pass.layout.piece(part.piece);
  const TokenView& sequence = pass.batch[static_cast<std::size_t>(piece.sequence)];
  const std::int64_t d = config.dim, halo = conv_halo(l);
  T* window = w.window.data();
  std::int64_t i = 0;
  if (part.offset > 0) {
    std::memmove(window, window + w.window_rows * d,
                 static_cast<std::size_t>(2 * halo * d) * sizeof(T));
    i = 2 * halo;
  }
  w.window_rows = part.n;
  const std::int64_t from = piece.offset + part.offset - halo, end = part.n + 2 * halo;
  const std::int64_t sequence_row = piece.first_row - piece.offset;
  while (i < end) {
    const std::int64_t u = from + i, position = wrap(sequence, u);
    T* out = window + i * d;
    std::int64_t run = 1;
    if (position < 0) {
      std::fill_n(out, d, T(0));
    } else if (u >= piece.offset && u < piece.offset + piece.rows) {
      run = std::min(end - i, piece.offset + piece.rows - u);
      load_normed(pass, w, l, sequence_row + u, run, out);
    } else if (training) {
      load_normed(pass, w, l, sequence_row + position, 1, out);
    } else {
      const std::int64_t p = pass.layout.first_piece[static_cast<std::size_t>(piece.sequence)] +
                             position / kernels::kTileRows;
      const std::int64_t rows = pass.layout.piece(p).rows, in_piece = position % kernels::kTileRows,
                         kept = std::min(halo, rows);
      const T* saved = pass.halos.data() + 2 * p * pass.halo_stride * d;
      saved += in_piece < kept ? in_piece * d : (pass.halo_stride + in_piece - (rows - kept)) * d;
      std::copy_n(saved, d, out);
    }
    i += run;
  }
}

// --- sweeps

template <class T>
void Encoder<T>::Impl::for_tiles(const Pass& pass, std::initializer_list<TileSum*> sums,
                                 const std::function<void(Work& w, const Tile& tile)>& work_on) {
  backend.for_tiles(static_cast<std::int64_t>(pass.layout.tiles.size()),
                    [&](int worker, std::int64_t t) {
                      or_give_up(sums, [&] { work_on(work(worker), pass.layout.tile(t)); });
                    });
}

template <class T>
void Encoder<T>::Impl::embed_sweep(Pass& pass) {
  const std::int64_t d = config.dim;
  const bool conv = config.has_conv(0), keys = pass.key_layers > 0 && !conv;
  const auto sum = keys ? pass.sum_states(0) : nullptr;
  for_tiles(pass, {sum.get()}, [&](Work& w, const Tile& tile) {
    TileStates states(pass, sum.get(), w, tile, 0);
    for (TileBlocks b(pass.layout, tile, block); b.next();) {
      for (const Part& part : b.parts) {
        token_window(pass, w, part);
        backend.embed(w.id, part.n, config.dim, config.window, w.tokens.data(),
                      parameter(table.embedding), parameter(table.embedding_bias),
                      w.x.data() + part.start * d);
      }
      pass.stage(0, !conv).store(tile.first_row + b.start, b.n, w.x.data());
      if (keys) key_half(w, 0, b, states);
    }
    save_halos(pass, w, tile, 0);
  });
}

template <class T>
void Encoder<T>::Impl::conv_sweep(Pass& pass, int l) {
  const std::int64_t d = config.dim;
  const LocalConv& conv = config.local_conv[static_cast<std::size_t>(l)];
  const bool keys = l < pass.key_layers;
  const auto sum = keys ? pass.sum_states(l) : nullptr;
  for_tiles(pass, {sum.get()}, [&](Work& w, const Tile& tile) {
    TileStates states(pass, sum.get(), w, tile, l);
    for (TileBlocks b(pass.layout, tile, block); b.next();) {
      pass.stage(l, false).load(tile.first_row + b.start, b.n, w.x.data());
      for (const Part& part : b.parts) {
        fill_conv_window(pass, w, part, l);
        backend.local_conv(w.id, part.n, config.dim, conv.width, conv.dilation, w.window.data(),
                           parameter(offsets(l).conv_weight), false, w.x.data() + part.start * d);
      }
      pass.stage(l, true).store(tile.first_row + b.start, b.n, w.x.data());
      if (keys) key_half(w, l, b, states);
    }
  });
}

template <class T>
void Encoder<T>::Impl::layer_sweep(Pass& pass, int l) {
  const bool last = l + 1 == config.layers, conv = !last && config.has_conv(l + 1);
  const bool keys = l + 1 < pass.key_layers && !conv;
  const auto sum = keys ? pass.sum_states(l + 1) : nullptr;
  for_tiles(pass, {sum.get()}, [&](Work& w, const Tile& tile) {
    TileStates states(pass, sum.get(), w, tile, l + 1);
    for (TileBlocks b(pass.layout, tile, block); b.next();) {
      const std::int64_t row = tile.first_row + b.start;
      pass.stage(l, true).load(row, b.n, w.x.data());
      query_half(pass, w, l, b.n, b.parts);
      feed_forward(w, l, b.n);
      (last ? pass.stage(l, true) : pass.stage(l + 1, !conv)).store(row, b.n, w.x.data());
      if (keys) key_half(w, l + 1, b, states);
    }
    save_halos(pass, w, tile, l + 1);
  });
}

// Runs `whole` layers, and with next_keys the key half (and its convolution) of the one after them.
// after, when set, is called when the residual stream is that after so many layers, 0 to `whole`.
template <class T>
void Encoder<T>::Impl::run(Pass& pass, int whole, bool next_keys,
                           const std::function<void(int layers)>& after) {
  pass.key_layers = whole + next_keys;
  embed_sweep(pass);
  if (after) after(0);
  for (int l = 0; l < pass.key_layers; ++l) {
    if (config.has_conv(l)) conv_sweep(pass, l);
    if (l < whole) layer_sweep(pass, l);
    if (l < whole && after) after(l + 1);
    if (on_layer) on_layer(l + 1, pass.key_layers);
  }
}

template <class T>
std::pair<std::int64_t, std::int64_t> Encoder<T>::Impl::rows_of_tile(
    std::span<const std::int64_t> rows, const Tile& tile) {
  const auto begin = std::lower_bound(rows.begin(), rows.end(), tile.first_row);
  const auto end = std::lower_bound(begin, rows.end(), tile.first_row + tile.rows);
  return {begin - rows.begin(), end - rows.begin()};
}

// The pieces that rows of a tile, ascending, belong to.
template <class T>
void Encoder<T>::Impl::parts_of_rows(const Layout& layout, const Tile& tile,
                                     std::span<const std::int64_t> rows, std::vector<Part>& parts) {
  parts.clear();
  std::int64_t p = tile.first_piece;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    while (rows[i] >= layout.piece(p).first_row + layout.piece(p).rows) ++p;
    if (parts.empty() || parts.back().piece != p) parts.push_back({p, static_cast<int>(i), 0, 0});
    ++parts.back().n;
  }
}

// The last query half and feed-forward touch no other row: only the rows asked for take part.
template <class T>
void Encoder<T>::Impl::last_layer_log_probs(Pass& pass, std::span<const std::int64_t> rows,
                                            T* log_probs) {
  const int l = config.layers - 1;
  for_tiles(pass, {}, [&](Work& w, const Tile& tile) {
    std::vector<Part> parts;
    const auto [begin, end] = rows_of_tile(rows, tile);
    for (std::int64_t at = begin; at < end; at += block) {
      const int n = static_cast<int>(std::min<std::int64_t>(block, end - at));
      const auto some = rows.subspan(static_cast<std::size_t>(at), static_cast<std::size_t>(n));
      pass.stage(l, true).gather(some, w.x.data());
      parts_of_rows(pass.layout, tile, some, parts);
      query_half(pass, w, l, n, parts);
      feed_forward(w, l, n);
      norm_rows(w.id, n, w.x.data(), table.final_norm, w.h.data());
      backend.head(w.id, n, config.dim, w.h.data(), parameter(table.head_weight),
                   parameter(table.head_bias), log_probs + at * 4);
      mix_memory(pass, w, some, log_probs + at * 4);
    }
  });
}

template <class T>
void Encoder<T>::Impl::mix_memory(Pass& pass, Work& w, std::span<const std::int64_t> rows,
                                  T* log_probs) {
  if (config.memory.empty() || !pass.counts) return;
  mix.forward(w.id, backend, parameters.data(), rows, pass.counts, w.memory, log_probs);
}

template struct Encoder<float>::Impl;
template struct Encoder<double>::Impl;

}  // namespace m5
