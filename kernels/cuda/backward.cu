// Backward sweeps, mirroring forward.cu. All but the stages and the states is computed again for
// each chunk. What a chunk adds to the gradient of the parameters, a product in fp32 or partial
// sums, is added in double, chunk after chunk, in the order of the slab: to the gradient of the
// step where there is an update, else to one that is downloaded at the end.
#include <algorithm>

#include "kernels/cuda/sweeps.hpp"
#include "m5/error.hpp"

namespace m5::kernels::cuda {

// gradient[offset ..] += the partial sums, in order.
template <class E>
void CudaPass<E>::add_sums(std::int64_t parts, std::int64_t count, const float* partial,
                           std::int64_t offset) {
  add_parts(device_, parts, count, partial, s_.gradient(offset));
}

template <class E>
void CudaPass<E>::add_product(std::int64_t n, int in, int out, const E* x, const E* dy,
                              std::int64_t offset, std::int64_t count) {
  constexpr std::int64_t kRows = kProductParts * kProductRows<E>;
  for (std::int64_t first = 0; first < n; first += kRows) {
    const std::int64_t rows = std::min(kRows, n - first);
    products_.backward_weight(rows, in, out, x + first * in, dy + first * out, w_.partial.data());
    add_gradient(device_, s_.device_regions_, offset, count, product_parts<E>(rows),
                 std::int64_t{in} * out, w_.partial.data(), s_.gradient_.data());
  }
}

// query_half and feed_forward up to its second product, keeping what backward needs.
template <class E>
void CudaPass<E>::recompute(int layer, const Rows& rows, const E* x) {
  const LayerOffsets& at = s_.at(layer);
  query_half(layer, rows, x, w_.a.data(), true);
  norm(device_, rows.n(), dim(), s_.epsilon(), w_.a.data(), s_.parameter(at.ff_norm), w_.h2.data(),
       nullptr);
  products_.forward_gelu(rows.n(), dim(), s_.config().ff_dim, w_.h2.data(),
                         s_.operand(at.up_weight), s_.operand(at.up_bias), w_.keep.data(),
                         w_.up.data());
}

template <class E>
void CudaPass<E>::normed_backward(int layer, std::int64_t n, const E* x, const E* d_keys,
                                  const E* d_queries, E* dx) {
  const LayerOffsets& at = s_.at(layer);
  bool add = false;
  const auto product = [&](std::int64_t weight, int columns, const E* dz) {
    if (!dz) return;
    add_product(n, dim(), columns, w_.h.data(), dz, weight);
    products_.backward_input(n, dim(), columns, dz, s_.operand(weight), nullptr, w_.dh.data(), add);
    add = true;
  };
  product(at.key_value, s_.key_columns(), d_keys);
  product(at.query, s_.query_columns(), d_queries);
  norm_backward(device_, n, dim(), s_.epsilon(), x, s_.parameter(at.attention_norm), w_.dh.data(),
                dx, dx, NormSums{w_.partial.data(), nullptr, nullptr});
  add_sums(sum_parts(n), dim(), w_.partial.data(), at.attention_norm);
}

// dx: in, gradient of the layer's output; out, of its input but by way of the queries and keys. The
// gradient of the state is added to d_states_.
template <class E>
void CudaPass<E>::layer_backward(int layer, const Rows& rows, E* dx, E* d_queries) {
  const LayerOffsets& at = s_.at(layer);
  const std::int64_t n = rows.n(), parts = sum_parts(n), d = dim();
  const int ff = s_.config().ff_dim;
  float* partial = w_.partial.data();
  // Feed-forward: out = a + W_2 gelu(W_1 norm(a) + b_1) + b_2.
  add_product(n, ff, dim(), w_.up.data(), dx, at.down_weight);
  products_.backward_input(n, ff, dim(), dx, s_.operand(at.down_weight), w_.keep.data(),
                           w_.d_up.data());
  add_product(n, dim(), ff, w_.h2.data(), w_.d_up.data(), at.up_weight);
  column_sums(device_, n, ff, w_.d_up.data(), partial);
  add_sums(parts, ff, partial, at.up_bias);
  products_.backward_input(n, dim(), ff, w_.d_up.data(), s_.operand(at.up_weight), nullptr,
                           w_.dh.data());
  const NormSums sums{partial, partial + parts * d, partial + 2 * parts * d};
  norm_backward(device_, n, dim(), s_.epsilon(), w_.a.data(), s_.parameter(at.ff_norm),
                w_.dh.data(), dx, dx, sums);
  add_sums(parts, d, sums.gain, at.ff_norm);
  add_sums(parts, d, sums.before, at.down_bias);
  // Query half: a = x + W_o o + b_o.
  add_sums(parts, d, sums.after, at.output_bias);
  add_product(n, dim(), dim(), w_.o.data(), dx, at.output_weight);
  products_.backward_input(n, dim(), dim(), dx, s_.operand(at.output_weight), nullptr,
                           w_.d_o.data());
  query_backward_rows(layer, rows, d_queries);
}

// From d_o: the queries' gradient, and what the rows add to the gradient of the state.
template <class E>
void CudaPass<E>::query_backward_rows(int layer, const Rows& rows, E* d_queries) {
  const AttentionSize& size = s_.attention_;
  cuda::query_backward(device_, size, rows.pieces(), w_.z.data(), state(layer), w_.o.data(),
                       w_.weight.data(), w_.d_o.data(), d_queries, w_.du.data());
  accumulate(device_, size, rows.pieces(), w_.z.data(), s_.query_columns(), w_.du.data(),
             std::int64_t{size.value_dim + 1} * size.heads, false, w_.partial.data());
  reduce_states(device_, size, rows.cut->spans(*rows.chunk), rows.chunk->spans, w_.partial.data(),
                s_.weights_.data(), totals_.data(), d_states_.data());
}

// --- sweeps

// The last layer's query half forward, head, loss, and back again: only the rows asked for have a
// gradient there.
template <class E>
void CudaPass<E>::head_backward(int in, std::span<const std::int64_t> rows, float* log_probs,
                                const LossRows<float>& loss, double* gradient) {
  const int last = s_.config().layers - 1;
  const ParameterTable& table = s_.table();
  const LayerOffsets& at = s_.at(last);
  const HeadParameters head = head_parameters();
  const auto rest = static_cast<std::size_t>(table.total - table.encoder);
  const bool updates = s_.update_.first.size() > 0;
  if (updates == (gradient != nullptr)) {
    throw Error(ErrorKind::kInternal, updates ? "device cuda: a gradient beside that of the update"
                                              : "device cuda: a gradient for no update");
  }
  host_gradient_ = gradient;
  // Of the head's bias and all behind it.
  double* const by_host = gradient ? gradient + table.head_bias : s_.update_.host_gradient.data();
  if (gradient) device_.clear(s_.gradient_.data(), s_.gradient_.bytes());
  device_.clear(s_.head_sums_.data(), s_.head_sums_.bytes());
  device_.clear(dx_.data(), dx_.bytes());
  device_.clear(d_states_.data(), d_states_.bytes());  // contexts that no row asks

  const DeviceCut asked(device_, batch_.cut_rows(rows, s_.setup_.chunk_rows));
  AskedTransfer& transfer = *s_.asked_[0];
  float* const d_logits = transfer.log_probs.data();  // what comes as the one goes as the other
  for_chunks(asked, [&](const Rows& chunk) {
    const std::int64_t n = chunk.n(), first = chunk.chunk->row, parts = sum_parts(n);
    gather_asked(in, rows, chunk, transfer);
    recompute(last, chunk, w_.x.data());
    products_.forward(n, s_.config().ff_dim, dim(), w_.up.data(), s_.operand(at.down_weight),
                      s_.operand(at.down_bias), w_.a.data(), w_.out.data());
    cuda::head(device_, head, n, w_.out.data(), w_.log_probs.data(), w_.inverse.data());
    float* out = log_probs + first * 4;
    const auto values = static_cast<std::size_t>(n) * 4;
    device_.download_pinned(d_logits, w_.log_probs.data(), values * sizeof(float));
    transfer.done.record();
    transfer.done.wait();

    const auto blocks = static_cast<std::size_t>(ceil_div(n, kBlockRows));
    std::vector<float> d_rest(blocks * rest, 0.0f);
    for_blocks(n, [&](int worker, std::int64_t row, int count) {
      std::copy_n(d_logits + row * 4, std::int64_t{count} * 4, out + row * 4);
      loss(worker, first + row, count, out + row * 4, d_logits + row * 4,
           d_rest.data() + static_cast<std::size_t>(row / kBlockRows) * rest);
    });
    for (std::size_t i = 0; i < blocks * rest; ++i) {
      by_host[static_cast<std::size_t>(table.encoder - table.head_bias) + i % rest] +=
          static_cast<double>(d_rest[i]);
    }
    for (std::size_t i = 0; i < values; ++i) {
      by_host[i % 4] += static_cast<double>(d_logits[i]);
    }
    device_.upload_pinned(w_.d_logits.data(), d_logits, values * sizeof(float));
    cuda::head_backward(device_, head, n, w_.out.data(), w_.inverse.data(), w_.d_logits.data(),
                        w_.dx.data(), w_.partial.data());
    add_parts(device_, parts, 4 * dim(), w_.partial.data(), s_.head_sums_.data());
    layer_backward(last, chunk, w_.dx.data(), w_.dz.data());
    attention_norm(last, n, w_.x.data());  // fused kernels leave none
    normed_backward(last, n, w_.x.data(), nullptr, w_.dz.data(), w_.dx.data());
    scatter(device_, n, dim(), w_.rows.data(), w_.dx.data(), dx_.data());
  });
  head_gradients(device_, head, s_.head_sums_.data(), s_.gradient(table.head_weight),
                 s_.gradient(table.final_norm));
  device_.finish();
}

template <class E>
void CudaPass<E>::query_backward(int layer, int in) {
  for_chunks(batch_.all, [&](const Rows& rows) {
    recompute(layer, rows, x(in, rows));
    layer_backward(layer, rows, dx_.data() + rows.chunk->row * dim(), queries(layer, rows));
  });
}

template <class E>
void CudaPass<E>::key_backward(int layer, int in) {
  const LayerOffsets& at = s_.at(layer);
  const int keys = s_.key_columns();
  for_chunks(batch_.all, [&](const Rows& rows) {
    const std::int64_t n = rows.n();
    const E* from = x(in, rows);
    E* dx = dx_.data() + rows.chunk->row * dim();
    attention_norm(layer, n, from);
    products_.forward(n, dim(), keys, w_.h.data(), s_.operand(at.key_value), nullptr, nullptr,
                      w_.z.data());
    accumulate_backward(device_, s_.attention_, rows.pieces(), w_.z.data(), d_states_.data(),
                        w_.dz.data());
    normed_backward(layer, n, from, w_.dz.data(), queries(layer, rows), dx);
  });
}

// y = x + conv(norm(x)): dx = dy + norm_backward(conv^T dy).
template <class E>
void CudaPass<E>::convolve_backward(int layer, int in) {
  const LayerOffsets& at = s_.at(layer);
  const Convolution c = s_.convolution(layer);
  const E* all = stages_[static_cast<std::size_t>(in)].data();
  norm<E>(device_, batch_.rows, dim(), s_.epsilon(), all, c.gain, nullptr, inverse_.data());
  for_chunks(batch_.all, [&](const Rows& rows) {
    const std::int64_t n = rows.n(), row = rows.chunk->row * dim();
    convolve_backward_weight(device_, rows.pieces(), c, all, inverse_.data(), dx_.data(),
                             w_.partial.data());
    add_sums(rows.chunk->pieces, std::int64_t{c.width} * dim(), w_.partial.data(), at.conv_weight);
    cuda::convolve_backward(device_, rows.pieces(), c, dx_.data(), w_.dh.data());
    norm_backward(device_, n, dim(), s_.epsilon(), all + row, c.gain, w_.dh.data(),
                  dx_.data() + row, dx_other_.data() + row,
                  NormSums{w_.partial.data(), nullptr, nullptr});
    add_sums(sum_parts(n), dim(), w_.partial.data(), at.conv_norm);
  });
  std::swap(dx_, dx_other_);
}

template <class E>
void CudaPass<E>::embed_backward() {
  const int columns = one_hot_columns(s_.config().window);
  const ParameterTable& table = s_.table();
  for_chunks(batch_.all, [&](const Rows& rows) {
    one_hot(device_, rows.pieces(), s_.config().window, batch_.tokens.data(), w_.up.data());
    // Weight and bias open the slab side by side; the columns behind them are zeros.
    add_product(rows.n(), dim(), columns, dx_.data() + rows.chunk->row * dim(), w_.up.data(),
                table.embedding, table.embedding_bias + dim() - table.embedding);
  });
  if (!host_gradient_) return;
  std::vector<double> sum(static_cast<std::size_t>(table.head_bias));
  device_.download(sum.data(), s_.gradient_.data(), sum.size() * sizeof(double));
  for (std::size_t i = 0; i < sum.size(); ++i) host_gradient_[i] += sum[i];
}

// The members of this file.
template class CudaPass<float>;
template class CudaPass<bf16>;

}  // namespace m5::kernels::cuda
