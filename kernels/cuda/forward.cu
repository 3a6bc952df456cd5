// Forward sweeps: the order of the kernels on a chunk.
#include <algorithm>

#include "kernels/cuda/sweeps.hpp"

namespace m5::kernels::cuda {

template <class E>
CudaPass<E>::CudaPass(CudaSweeps<E>& sweeps, std::span<const TokenView> batch, int stages)
    : s_(sweeps),
      device_(sweeps.device_),
      w_(sweeps.work_),
      products_(*sweeps.products_),
      batch_(sweeps.device_, *sweeps.tokens_, batch, sweeps.config().window,
             sweeps.setup_.chunk_rows) {
  const bool training = s_.options().training, conv = s_.any_convolution();
  const auto stream = [&] { return Array<E>(device_, batch_.rows * dim(), "the rows of a batch"); };
  for (int stage = 0; stage < stages; ++stage) stages_.push_back(stream());
  if (conv && !training) spare_ = stream();
  if (s_.config().layers > 1) {
    queries_ = Array<E>(device_, batch_.rows * s_.query_columns(), "the rows of a batch");
  }
  if (conv) inverse_ = Array<float>(device_, batch_.rows, "the rows of a batch");
  const std::int64_t state = batch_.contexts * s_.attention_.state();
  const int kept = training ? s_.config().layers : std::min(s_.config().layers, 2);
  for (int l = 0; l < kept; ++l) states_.emplace_back(device_, state, "the states");
  totals_ = Array<double>(device_, state, "the states");
  if (training) {
    dx_ = stream();
    if (conv) dx_other_ = stream();
    d_states_ = Array<float>(device_, state, "the states");
  }
}

template <class E>
float* CudaPass<E>::state(int layer) {
  return states_[static_cast<std::size_t>(layer) % states_.size()].data();
}

template <class E>
E* CudaPass<E>::queries(int layer, const Rows& rows) {
  if (layer + 1 == s_.config().layers) return nullptr;
  return queries_.data() + rows.chunk->row * s_.query_columns();
}

// --- pieces of a layer

template <class E>
void CudaPass<E>::attention_norm(int layer, std::int64_t n, const E* x) {
  norm(device_, n, dim(), s_.epsilon(), x, s_.parameter(s_.at(layer).attention_norm), w_.h.data(),
       nullptr);
}

template <class E>
void CudaPass<E>::normed_products(int layer, std::int64_t n, const E* x, E* keys, E* queries) {
  const LayerOffsets& at = s_.at(layer);
  const int key_columns = s_.key_columns(), query_columns = s_.query_columns();
  if constexpr (std::is_same_v<E, bf16>) {
    if (fuses_layers(s_.setup_)) {
      const NormProduct p{dim(),
                          s_.epsilon(),
                          s_.parameter(at.attention_norm),
                          {s_.operand(at.key_value), keys ? key_columns : 0, keys},
                          {s_.operand(at.query), queries ? query_columns : 0, queries}};
      return norm_product(device_, n, p, x);
    }
  }
  attention_norm(layer, n, x);
  const auto product = [&](std::int64_t weight, int columns, E* out) {
    if (!out) return;
    products_.forward(n, dim(), columns, w_.h.data(), s_.operand(weight), nullptr, nullptr, out);
  };
  product(at.key_value, key_columns, keys);
  product(at.query, query_columns, queries);
}

// S_layer += phi(k)^T [v, 1].
template <class E>
void CudaPass<E>::sum_keys(int layer, const Rows& rows, const E* x) {
  const std::int64_t stride = s_.key_columns();
  normed_products(layer, rows.n(), x, w_.z.data(), queries(layer, rows));
  accumulate(device_, s_.attention_, rows.pieces(), w_.z.data(), stride,
             w_.z.data() + s_.query_columns(), stride, true, w_.partial.data());
  reduce_states(device_, s_.attention_, rows.cut->spans(*rows.chunk), rows.chunk->spans,
                w_.partial.data(), s_.weights_.data(), totals_.data(), state(layer));
}

template <class E>
void CudaPass<E>::attend(int layer, const Rows& rows, const E* x, bool kept) {
  const E* z = queries(layer, rows);
  if (!z || queries_of_ != layer) {
    normed_products(layer, rows.n(), x, nullptr, w_.z.data());
    z = w_.z.data();
  }
  query(device_, s_.attention_, rows.pieces(), z, state(layer), w_.o.data(),
        kept ? w_.weight.data() : nullptr);
}

template <class E>
void CudaPass<E>::query_half(int layer, const Rows& rows, const E* x, E* out, bool kept) {
  const LayerOffsets& at = s_.at(layer);
  attend(layer, rows, x, kept);
  products_.forward(rows.n(), dim(), dim(), w_.o.data(), s_.operand(at.output_weight),
                    s_.operand(at.output_bias), x, out);
}

// gelu(W_1 norm(x) + b_1), where feed_forward has it.
template <class E>
void CudaPass<E>::up(int layer, std::int64_t n, const E* x) {
  const LayerOffsets& at = s_.at(layer);
  const int ff = s_.config().ff_dim;
  if constexpr (std::is_same_v<E, bf16>) {
    if (s_.setup_.fused == Fused::kWarpgroups && takes_norm_gelu(device_, dim(), ff)) {
      const NormGelu p{ff, s_.epsilon(), s_.parameter(at.ff_norm), s_.operand(at.up_weight),
                       s_.operand(at.up_bias)};
      return norm_gelu(device_, n, p, x, w_.up.data());
    }
  }
  norm(device_, n, dim(), s_.epsilon(), x, s_.parameter(at.ff_norm), w_.h.data(), nullptr);
  products_.forward_gelu(n, dim(), ff, w_.h.data(), s_.operand(at.up_weight),
                         s_.operand(at.up_bias), nullptr, w_.up.data());
}

// out = x + W_2 gelu(W_1 norm(x) + b_1) + b_2.
template <class E>
void CudaPass<E>::feed_forward(int layer, const Rows& rows, const E* x, E* out) {
  const std::int64_t n = rows.n();
  const LayerOffsets& at = s_.at(layer);
  const int ff = s_.config().ff_dim;
  up(layer, n, x);
  products_.forward(n, ff, dim(), w_.up.data(), s_.operand(at.down_weight),
                    s_.operand(at.down_bias), x, out);
}

template <class E>
void CudaPass<E>::layer_rows(int layer, const Rows& rows, const E* x, E* out) {
  if constexpr (std::is_same_v<E, bf16>) {
    if (fuses_layers(s_.setup_)) {
      const LayerOffsets& at = s_.at(layer);
      const FeedForward p{dim(),
                          s_.config().ff_dim,
                          s_.epsilon(),
                          s_.operand(at.output_weight),
                          s_.operand(at.output_bias),
                          s_.parameter(at.ff_norm),
                          s_.operand(at.up_weight),
                          s_.operand(at.up_bias),
                          s_.operand(at.down_weight),
                          s_.operand(at.down_bias),
                          s_.setup_.fused == Fused::kWarpgroups};
      attend(layer, rows, x, false);
      return cuda::feed_forward(device_, rows.n(), p, w_.o.data(), x, out);
    }
  }
  query_half(layer, rows, x, out, false);
  feed_forward(layer, rows, out, out);
}

// queue(part, transfer) of one part after the other, take(part, transfer) of each when what was
// queued for it is done: while the next one is computed. What throws ends it when nothing is on its
// way any more.
template <class Transfer, class Queue, class Take>
static void in_turns(Device& device, const std::vector<Chunk>& parts,
                     const std::array<std::unique_ptr<Transfer>, 2>& transfers, Queue queue,
                     Take take) try {
  for (std::size_t i = 0; i <= parts.size(); ++i) {
    if (i < parts.size()) {
      queue(parts[i], *transfers[i % 2]);
      transfers[i % 2]->done.record();
    }
    if (i == 0) continue;
    Transfer& before = *transfers[(i - 1) % 2];
    before.done.wait();
    take(parts[i - 1], before);
  }
} catch (...) {
  device.finish();
  throw;
}

// --- sweeps

template <class E>
void CudaPass<E>::embed_rows(const Rows& rows, E* x) {
  const ParameterTable& table = s_.table();
  const int window = s_.config().window;
  const Token* tokens = batch_.tokens.data();
  const float* bias = s_.parameter(table.embedding_bias);
  if constexpr (std::is_same_v<E, bf16>) {
    if (embed_mma(device_, rows.pieces(), dim(), window, tokens, s_.operand(table.embedding), bias,
                  x)) {
      return;
    }
  }
  cuda::embed(device_, rows.pieces(), dim(), window, tokens, s_.parameter(table.embedding), bias,
              x);
}

template <class E>
void CudaPass<E>::embed(int out, bool next) {
  const bool keys = next && !conv(0);
  for_chunks(batch_.all, [&](const Rows& rows) {
    embed_rows(rows, x(out, rows));
    if (keys) sum_keys(0, rows, x(out, rows));
  });
  queries_of_ = keys ? 0 : -1;
}

template <class E>
void CudaPass<E>::convolve(int layer, int in, int out, bool keys) {
  const Convolution c = s_.convolution(layer);
  Array<E>& from = stages_[static_cast<std::size_t>(in)];
  // Neighbours need the old rows.
  Array<E>& to = in == out ? spare_ : stages_[static_cast<std::size_t>(out)];
  norm<E>(device_, batch_.rows, dim(), s_.epsilon(), from.data(), c.gain, nullptr, inverse_.data());
  for_chunks(batch_.all, [&](const Rows& rows) {
    cuda::convolve(device_, rows.pieces(), c, from.data(), inverse_.data(), to.data());
    if (keys) sum_keys(layer, rows, to.data() + rows.chunk->row * dim());
  });
  queries_of_ = keys ? layer : -1;
  if (in == out) std::swap(from, spare_);
}

template <class E>
void CudaPass<E>::layer(int layer, int in, int out, bool next) {
  const bool keys = next && layer + 1 < s_.config().layers && !conv(layer + 1);
  for_chunks(batch_.all, [&](const Rows& rows) {
    layer_rows(layer, rows, x(in, rows), x(out, rows));
    if (keys) sum_keys(layer + 1, rows, x(out, rows));
  });
  queries_of_ = keys ? layer + 1 : -1;
}

template <class E>
void CudaPass<E>::gather_asked(int in, std::span<const std::int64_t> rows, const Rows& chunk,
                               AskedTransfer& transfer) {
  const auto n = static_cast<std::size_t>(chunk.n());
  std::copy_n(rows.data() + chunk.chunk->row, n, transfer.rows.data());
  device_.upload_pinned(w_.rows.data(), transfer.rows.data(), n * sizeof(std::int64_t));
  gather(device_, chunk.n(), dim(), w_.rows.data(), stages_[static_cast<std::size_t>(in)].data(),
         w_.x.data());
}

template <class E>
void CudaPass<E>::for_blocks(
    std::int64_t n, const std::function<void(int worker, std::int64_t first, int n)>& call) {
  s_.setup_.host->for_tiles(ceil_div(n, kBlockRows), [&](int worker, std::int64_t block) {
    const std::int64_t first = block * kBlockRows;
    call(worker, first, static_cast<int>(std::min<std::int64_t>(kBlockRows, n - first)));
  });
}

template <class E>
HeadParameters CudaPass<E>::head_parameters() const {
  const ParameterTable& table = s_.table();
  return {dim(), s_.epsilon(), s_.parameter(table.final_norm), s_.parameter(table.head_weight),
          s_.parameter(table.head_bias)};
}

template <class E>
void CudaPass<E>::head(int in, std::span<const std::int64_t> rows, float* log_probs,
                       const FinishRows<float>& finish) {
  const int last = s_.config().layers - 1;
  const DeviceCut asked(device_, batch_.cut_rows(rows, s_.setup_.chunk_rows));
  in_turns(
      device_, asked.cut.chunks, s_.asked_,
      [&](const Chunk& c, AskedTransfer& transfer) {
        const Rows chunk{&asked, &c};
        gather_asked(in, rows, chunk, transfer);
        E* x = w_.x.data();
        layer_rows(last, chunk, x, x);
        cuda::head<E>(device_, head_parameters(), c.rows, x, w_.log_probs.data(), nullptr);
        device_.download_pinned(transfer.log_probs.data(), w_.log_probs.data(),
                                static_cast<std::size_t>(c.rows) * 4 * sizeof(float));
      },
      [&](const Chunk& c, AskedTransfer& transfer) {
        for_blocks(c.rows, [&](int worker, std::int64_t row, int n) {
          float* out = log_probs + (c.row + row) * 4;
          std::copy_n(transfer.log_probs.data() + row * 4, std::int64_t{n} * 4, out);
          if (finish) finish(worker, c.row + row, n, out);
        });
      });
}

template <class E>
void CudaPass<E>::hidden(int in, bool normed, const RowSink<float>& sink,
                         const std::function<void()>& on_failure) {
  try {
    for (auto& transfer : s_.hidden_) {
      if (transfer) continue;
      transfer = std::make_unique<Transfer<E>>(device_, s_.hidden_rows() * dim());
    }
    const std::vector<Piece>& pieces = batch_.all.cut.pieces;
    std::vector<Chunk> parts;
    for (std::size_t p = 0; p < pieces.size(); ++p) {
      if (parts.empty() || parts.back().rows + pieces[p].rows > s_.hidden_rows()) {
        parts.push_back({pieces[p].row, 0, static_cast<std::int64_t>(p), 0, 0, 0});
      }
      parts.back().rows += pieces[p].rows;
      ++parts.back().pieces;
    }
    std::vector<std::vector<float>> values(static_cast<std::size_t>(s_.setup_.host->workers()));
    in_turns(
        device_, parts, s_.hidden_,
        [&](const Chunk& part, Transfer<E>& transfer) {
          const E* from = stages_[static_cast<std::size_t>(in)].data() + part.row * dim();
          if (normed) {
            norm(device_, part.rows, dim(), s_.epsilon(), from, s_.parameter(s_.table().final_norm),
                 w_.h.data(), nullptr);
            from = w_.h.data();
          }
          device_.download_pinned(transfer.values.data(), from,
                                  static_cast<std::size_t>(part.rows * dim()) * sizeof(E));
        },
        [&](const Chunk& part, Transfer<E>& transfer) {
          s_.setup_.host->for_tiles(part.pieces, [&](int worker, std::int64_t p) {
            const Piece& piece = pieces[static_cast<std::size_t>(part.first_piece + p)];
            std::vector<float>& wide = values[static_cast<std::size_t>(worker)];
            wide.resize(static_cast<std::size_t>(kPieceRows * dim()));
            const E* first = transfer.values.data() + (piece.row - part.row) * dim();
            std::transform(first, first + std::int64_t{piece.rows} * dim(), wide.begin(),
                           [](E v) { return to_float(v); });
            sink(piece.row, piece.rows, wide.data());
          });
        });
  } catch (...) {
    if (on_failure) on_failure();
    throw;
  }
}

// The members of this file.
template class CudaPass<float>;
template class CudaPass<bf16>;

}  // namespace m5::kernels::cuda
