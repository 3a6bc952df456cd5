// Forward: the pieces of a layer on a block of rows, and the sweeps that call them over all tiles.

#include <algorithm>

#include "kernels/tiled/tiled_pass.hpp"

namespace m5::kernels {

// --- pieces of a layer, on the block in w.x

template <class T>
void TiledPass<T>::norm_rows(int worker, int n, const T* x, std::int64_t gain, T* y) {
  backend_.norm(worker, n, config_.dim, config_.norm_epsilon, x, parameter(gain), y);
}

// x += W_o attention(norm(x)), the states of the parts' contexts given.
template <class T>
void TiledPass<T>::query_half(Work& w, int l, int n, std::span<const Part> parts) {
  using Then = typename Backend<T>::Then;
  const int id = w.id;
  const std::int64_t stride = kKeyDim * config_.heads;
  norm_rows(id, n, w.x.data(), offsets(l).attention_norm, w.h.data());
  backend_.linear(id, *weights(l).query, n, w.h.data(), w.q.data(), Then::kStore);
  backend_.bound(id, shape_, n, stride, w.q.data(), w.q.data());
  for (const Part& part : parts) {
    const std::int64_t row = part.start;
    backend_.attention_query(id, shape_, part.n, w.q.data() + row * stride, stride,
                             state_of(l, layout_.piece(part.piece).context),
                             w.o.data() + row * config_.dim, w.weight.data() + row * config_.heads);
  }
  backend_.linear(id, *weights(l).output, n, w.o.data(), w.x.data(), Then::kAdd);
}

// x += W_2 gelu(W_1 norm(x) + b_1) + b_2.
template <class T>
void TiledPass<T>::feed_forward(Work& w, int l, int n) {
  using Then = typename Backend<T>::Then;
  norm_rows(w.id, n, w.x.data(), offsets(l).ff_norm, w.h.data());
  backend_.linear(w.id, *weights(l).up, n, w.h.data(), w.up.data(), Then::kGelu);
  backend_.linear(w.id, *weights(l).down, n, w.up.data(), w.x.data(), Then::kAdd);
}

// S_l += phi(k)^T [v, 1], by pieces.
template <class T>
void TiledPass<T>::key_half(Work& w, int l, const TileBlocks& block, TileStates& states) {
  const int n = block.n;
  const std::int64_t stride = (kKeyDim + config_.value_dim()) * config_.heads;
  norm_rows(w.id, n, w.x.data(), offsets(l).attention_norm, w.h.data());
  backend_.linear(w.id, *weights(l).key_value, n, w.h.data(), w.kv.data(),
                  Backend<T>::Then::kStore);
  backend_.bound(w.id, shape_, n, stride, w.kv.data(), w.kv.data());
  for (const Part& part : block.parts) {
    const T* kv = w.kv.data() + part.start * stride;
    backend_.attention_accumulate(w.id, shape_, part.n, kv, stride, kv + kKeyDim * config_.heads,
                                  stride, true, states.begin(part));
    states.end(part);
  }
}

// --- sweeps

template <class T>
void TiledPass<T>::for_tiles(std::initializer_list<TileSum*> sums,
                             const std::function<void(Work& w, const Tile& tile)>& work_on) {
  backend_.for_tiles(
      static_cast<std::int64_t>(layout_.tiles.size()), [&](int worker, std::int64_t t) {
        or_give_up(sums, [&] { work_on(sweeps_.workspace(worker), layout_.tile(t)); });
      });
}

template <class T>
void TiledPass<T>::embed(int out, bool next) {
  const std::int64_t d = config_.dim;
  const bool keys = next && !config_.has_conv(0);
  const auto sum = keys ? sum_states(0) : nullptr;
  for_tiles({sum.get()}, [&](Work& w, const Tile& tile) {
    TileStates states(*this, sum.get(), w, tile, 0);
    for (TileBlocks b(layout_, tile, block_); b.next();) {
      for (const Part& part : b.parts) {
        token_window(w, part);
        backend_.embed(w.id, part.n, config_.dim, config_.window, w.tokens.data(),
                       parameter(table_.embedding), parameter(table_.embedding_bias),
                       w.x.data() + part.start * d);
      }
      stage(out).store(tile.first_row + b.start, b.n, w.x.data());
      if (keys) key_half(w, 0, b, states);
    }
    if (next) save_halos(w, tile, 0, stage(out));
  });
}

template <class T>
void TiledPass<T>::convolve(int l, int in, int out, bool keys) {
  const std::int64_t d = config_.dim;
  const LocalConv& conv = config_.local_conv[static_cast<std::size_t>(l)];
  const auto sum = keys ? sum_states(l) : nullptr;
  for_tiles({sum.get()}, [&](Work& w, const Tile& tile) {
    TileStates states(*this, sum.get(), w, tile, l);
    for (TileBlocks b(layout_, tile, block_); b.next();) {
      stage(in).load(tile.first_row + b.start, b.n, w.x.data());
      for (const Part& part : b.parts) {
        fill_conv_window(w, part, l, stage(in));
        backend_.local_conv(w.id, part.n, config_.dim, conv.width, conv.dilation, w.window.data(),
                            parameter(offsets(l).conv_weight), false, w.x.data() + part.start * d);
      }
      stage(out).store(tile.first_row + b.start, b.n, w.x.data());
      if (keys) key_half(w, l, b, states);
    }
  });
}

template <class T>
void TiledPass<T>::layer(int l, int in, int out, bool next) {
  const bool keys = next && !config_.has_conv(l + 1);
  const auto sum = keys ? sum_states(l + 1) : nullptr;
  for_tiles({sum.get()}, [&](Work& w, const Tile& tile) {
    TileStates states(*this, sum.get(), w, tile, l + 1);
    for (TileBlocks b(layout_, tile, block_); b.next();) {
      const std::int64_t row = tile.first_row + b.start;
      stage(in).load(row, b.n, w.x.data());
      query_half(w, l, b.n, b.parts);
      feed_forward(w, l, b.n);
      stage(out).store(row, b.n, w.x.data());
      if (keys) key_half(w, l + 1, b, states);
    }
    if (next) save_halos(w, tile, l + 1, stage(out));
  });
}

template <class T>
std::pair<std::int64_t, std::int64_t> TiledPass<T>::rows_of_tile(std::span<const std::int64_t> rows,
                                                                 const Tile& tile) {
  const auto begin = std::lower_bound(rows.begin(), rows.end(), tile.first_row);
  const auto end = std::lower_bound(begin, rows.end(), tile.first_row + tile.rows);
  return {begin - rows.begin(), end - rows.begin()};
}

// The pieces that rows of a tile, ascending, belong to.
template <class T>
void TiledPass<T>::parts_of_rows(const Tile& tile, std::span<const std::int64_t> rows,
                                 std::vector<Part>& parts) const {
  parts.clear();
  std::int64_t p = tile.first_piece;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    while (rows[i] >= layout_.piece(p).first_row + layout_.piece(p).rows) ++p;
    if (parts.empty() || parts.back().piece != p) parts.push_back({p, static_cast<int>(i), 0, 0});
    ++parts.back().n;
  }
}

// The last query half and feed-forward touch no other row: only the rows asked for take part.
template <class T>
void TiledPass<T>::head(int in, std::span<const std::int64_t> rows, T* log_probs,
                        const FinishRows<T>& finish) {
  const int l = config_.layers - 1;
  for_tiles({}, [&](Work& w, const Tile& tile) {
    std::vector<Part> parts;
    const auto [begin, end] = rows_of_tile(rows, tile);
    for (std::int64_t at = begin; at < end; at += block_) {
      const int n = static_cast<int>(std::min<std::int64_t>(block_, end - at));
      const auto some = rows.subspan(static_cast<std::size_t>(at), static_cast<std::size_t>(n));
      stage(in).gather(some, w.x.data());
      parts_of_rows(tile, some, parts);
      query_half(w, l, n, parts);
      feed_forward(w, l, n);
      norm_rows(w.id, n, w.x.data(), table_.final_norm, w.h.data());
      backend_.head(w.id, n, config_.dim, w.h.data(), parameter(table_.head_weight),
                    parameter(table_.head_bias), log_probs + at * 4);
      if (finish) finish(w.id, at, n, log_probs + at * 4);
    }
  });
}

namespace {
// Whoever waits for rows that a tile which threw will not give.
class WaitingSink final : public TileSum {
 public:
  explicit WaitingSink(const std::function<void()>& on_failure) : on_failure_(on_failure) {}
  void give_up() noexcept override {
    if (on_failure_) on_failure_();
  }

 private:
  const std::function<void()>& on_failure_;
};
}  // namespace

template <class T>
void TiledPass<T>::hidden(int in, bool normed, const RowSink<T>& sink,
                          const std::function<void()>& on_failure) {
  WaitingSink waiting(on_failure);
  for_tiles({&waiting}, [&](Work& w, const Tile& tile) {
    for (TileBlocks b(layout_, tile, block_); b.next();) {
      const std::int64_t row = tile.first_row + b.start;
      const T* values = stage(in).read(row, b.n, w.x.data());
      if (normed) {
        norm_rows(w.id, b.n, values, table_.final_norm, w.h.data());
        values = w.h.data();
      }
      sink(row, b.n, values);
    }
  });
}

template class TiledPass<float>;
template class TiledPass<double>;

}  // namespace m5::kernels
