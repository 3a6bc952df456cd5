// Windows over neighbouring rows: of tokens, and of the rows that a local convolution reads.

#include <algorithm>
#include <cstring>

#include "kernels/tiled/tiled_pass.hpp"

namespace m5::kernels {

template <class T>
void TiledPass<T>::token_window(Work& w, const Part& part) {
  const Piece& piece = layout_.piece(part.piece);
  const TokenView& sequence = batch_[static_cast<std::size_t>(piece.sequence)];
  const std::int64_t from = piece.offset + part.offset - config_.window;
  for (int i = 0; i < part.n + 2 * config_.window; ++i) {
    const std::int64_t position = wrap(sequence, from + i);
    w.tokens[static_cast<std::size_t>(i)] = position < 0 ? kTokenPad : sequence.tokens[position];
  }
}

// Inference updates the residual stream in place, while the convolutions of the neighbouring pieces
// still need this piece's old edges: its first and last rows are kept, normed.
template <class T>
void TiledPass<T>::save_halos(Work& w, const Tile& tile, int l, const RowStore<T>& x) {
  const int halo = conv_halo(config_, l);
  if (training_ || halo == 0) return;
  const std::int64_t d = config_.dim, stride = halo_stride_ * d;
  for (std::int64_t i = tile.first_piece; i < tile.end_piece; ++i) {
    const Piece& piece = layout_.piece(i);
    const int rows = std::min(halo, piece.rows);
    T* first = halos_.data() + 2 * i * stride;
    load_normed(w, l, x, piece.first_row, rows, first);
    load_normed(w, l, x, piece.first_row + piece.rows - rows, rows, first + stride);
  }
}

// y = norm(x) of rows of the batch, ahead of the convolution of layer l.
template <class T>
void TiledPass<T>::load_normed(Work& w, int l, const RowStore<T>& x, std::int64_t row,
                               std::int64_t n, T* y) {
  for (std::int64_t at = 0; at < n; at += block_) {
    const auto rows = static_cast<int>(std::min<std::int64_t>(block_, n - at));
    const T* read = x.read(row + at, rows, w.h.data());
    norm_rows(w.id, rows, read, offsets(l).conv_norm, y + at * config_.dim);
  }
}

// w.window = norm(x) of the part's rows and a halo on both sides; zero outside a linear sequence.
// Parts of a piece come in order: the first 2 halo rows are the last ones of the part before.
template <class T>
void TiledPass<T>::fill_conv_window(Work& w, const Part& part, int l, const RowStore<T>& x) {
  const Piece& piece = layout_.piece(part.piece);
  const TokenView& sequence = batch_[static_cast<std::size_t>(piece.sequence)];
  const std::int64_t d = config_.dim, halo = conv_halo(config_, l);
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
      load_normed(w, l, x, sequence_row + u, run, out);
    } else if (training_) {
      load_normed(w, l, x, sequence_row + position, 1, out);
    } else {
      const std::int64_t p =
          layout_.first_piece[static_cast<std::size_t>(piece.sequence)] + position / kTileRows;
      const std::int64_t rows = layout_.piece(p).rows, in_piece = position % kTileRows,
                         kept = std::min(halo, rows);
      const T* saved = halos_.data() + 2 * p * halo_stride_ * d;
      saved += in_piece < kept ? in_piece * d : (halo_stride_ + in_piece - (rows - kept)) * d;
      std::copy_n(saved, d, out);
    }
    i += run;
  }
}

template class TiledPass<float>;
template class TiledPass<double>;

}  // namespace m5::kernels
