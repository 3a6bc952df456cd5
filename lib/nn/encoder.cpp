#include "nn/encoder.hpp"

#include <algorithm>
#include <cstring>
#include <functional>

#include "kernels/math/monomials.hpp"
#include "m5/error.hpp"
#include "nn/encoder_impl.hpp"

namespace m5 {

using kernels::Buffer;

ObjectiveResult& ObjectiveResult::operator+=(const ObjectiveResult& o) {
  for (std::size_t k = 0; k < 3; ++k) {
    nll[k] += o.nll[k];
    count[k] += o.count[k];
    correct[k] += o.correct[k];
  }
  return *this;
}

template <class T>
Workspace<T>::Workspace(int worker, kernels::Backend<T>& backend, const ModelConfig& c, int block,
                        int conv_halo, bool training)
    : id(worker), tokens(static_cast<std::size_t>(block + 2 * c.window)) {
  const auto buffer = [&](std::int64_t per_row, int extra_rows = 0) {
    return Buffer<T>(backend, static_cast<std::size_t>(per_row * (block + extra_rows)));
  };
  const std::int64_t d = c.dim, heads = c.heads, dv = c.value_dim(), ff = c.ff_dim;
  x = buffer(d);
  h = buffer(d);
  q = buffer(kKeyDim * heads);
  kv = buffer((kKeyDim + dv) * heads);
  o = buffer(d);
  weight = buffer(heads);
  up = buffer(ff);
  logp = buffer(4);
  if (conv_halo > 0) window = buffer(d, 2 * conv_halo);
  if (!training) return;
  a = buffer(d);
  h2 = buffer(d);
  q_raw = buffer(kKeyDim * heads);
  kv_raw = buffer((kKeyDim + dv) * heads);
  up_raw = buffer(ff);
  dx = buffer(d);
  dh = buffer(d);
  d_o = buffer(d);
  du = buffer((dv + 1) * heads);
  dq = buffer(kKeyDim * heads);
  dkv = buffer((kKeyDim + dv) * heads);
  d_up = buffer(ff);
  if (conv_halo > 0) d_window = buffer(d, 2 * conv_halo);
}

template <class T>
Encoder<T>::Impl::Impl(const ModelConfig& c, kernels::Backend<T>& b, bool train, int block_rows)
    : config(c),
      table(c),
      backend(b),
      training(train),
      block(block_rows > 0 ? block_rows : b.preferred_block_rows()) {
  if (block % kernels::kRunRows != 0) {
    throw Error(ErrorKind::kUsage,
                "block rows must be a multiple of " + std::to_string(kernels::kRunRows));
  }
  shape.heads = config.heads;
  shape.value_dim = config.value_dim();
  shape.order = config.order;
  shape.bound = config.bound;
  shape.features = config.features();
  shape.polynomial = config.coefficients;
  parameters = Buffer<T>(backend, static_cast<std::size_t>(table.total));
  const auto use =
      training ? kernels::Backend<T>::kForwardAndBackward : kernels::Backend<T>::kForward;
  const int d = config.dim, heads = config.heads;
  for (int l = 0; l < config.layers; ++l) {
    Layer layer;
    layer.query = backend.make_linear(d, kKeyDim * heads, use);
    layer.key_value = backend.make_linear(d, (kKeyDim + config.value_dim()) * heads, use);
    layer.output = backend.make_linear(d, d, use);
    layer.up = backend.make_linear(d, config.ff_dim, use);
    layer.down = backend.make_linear(config.ff_dim, d, use);
    layers.push_back(std::move(layer));
  }
  for (int w = 0; w < backend.workers(); ++w) {
    workspaces.push_back(
        std::make_unique<Work>(w, backend, config, block, max_conv_halo(), training));
  }
}

template <class T>
void Encoder<T>::Impl::set_parameters(const T* values) {
  std::copy_n(values, table.total, parameters.data());
  for (int l = 0; l < config.layers; ++l) {
    const LayerOffsets& at = offsets(l);
    const Layer& w = layer(l);
    backend.pack(*w.query, parameter(at.query), nullptr);
    backend.pack(*w.key_value, parameter(at.key_value), nullptr);
    backend.pack(*w.output, parameter(at.output_weight), parameter(at.output_bias));
    backend.pack(*w.up, parameter(at.up_weight), parameter(at.up_bias));
    backend.pack(*w.down, parameter(at.down_weight), parameter(at.down_bias));
  }
}

template <class T>
Encoder<T>::Impl::Pass::Pass(Impl& i, Batch b)
    : impl(i), batch(b), layout(b), state_size(i.shape.state_size()) {
  const auto rows = static_cast<std::size_t>(layout.rows * impl.config.dim);
  const int layers = impl.config.layers;
  if (impl.training) {
    stages.resize(static_cast<std::size_t>(2 * layers));
    for (int l = 0; l < layers; ++l) {
      // Without a convolution both stages of a layer are one buffer: stage() asks for the second.
      if (impl.config.has_conv(l))
        stages[static_cast<std::size_t>(2 * l)] = Buffer<T>(impl.backend, rows);
      stages[static_cast<std::size_t>(2 * l + 1)] = Buffer<T>(impl.backend, rows);
    }
  } else {
    stages.emplace_back(impl.backend, rows);
    halo_stride = impl.max_conv_halo();
    halos = Buffer<T>(impl.backend, layout.tiles.size() * 2 *
                                        static_cast<std::size_t>(halo_stride * impl.config.dim));
  }
  const int kept_states = impl.training ? layers : std::min(layers, 2);
  for (int s = 0; s < kept_states; ++s) {
    states.emplace_back(impl.backend, static_cast<std::size_t>(layout.contexts * state_size));
  }
  total.assign(static_cast<std::size_t>(state_size), 0.0);
}

template <class T>
std::unique_ptr<OrderedSum<double>> Encoder<T>::Impl::Pass::sum_states(
    std::function<T*(std::int64_t)> destination) {
  return std::make_unique<StateSum>(
      state_size, [this, destination = std::move(destination)](std::int64_t t, const double* part) {
        const Tile& tile = layout.tiles[static_cast<std::size_t>(t)];
        for (std::size_t i = 0; i < total.size(); ++i) total[i] += part[i];
        if (!tile.last_of_context) return;
        impl.backend.attention_scale(impl.shape, total.data(), destination(tile.context));
        std::fill(total.begin(), total.end(), 0.0);
      });
}

// --- pieces of a layer, on the block in w.x
// -------------------------------------------------------

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
// ---------------------------------------------------------------

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
  if (training || l >= config.layers || conv_halo(l) == 0) return;
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
// ---------------------------------------------------------------------------------------

template <class T>
void Encoder<T>::Impl::embed_sweep(Pass& pass) {
  const std::int64_t d = config.dim;
  const bool keys = !config.has_conv(0);
  auto sum = pass.sum_states([&](std::int64_t context) { return pass.state(0, context); });
  backend.for_tiles(
      static_cast<std::int64_t>(pass.layout.tiles.size()), [&](int worker, std::int64_t t) {
        const Tile& tile = pass.layout.tiles[static_cast<std::size_t>(t)];
        Work& w = work(worker);
        auto part = keys ? sum->begin_part() : nullptr;
        for (int start = 0; start < tile.rows; start += block) {
          const int n = std::min(block, tile.rows - start);
          token_window(pass, w, tile, start, n);
          backend.embed(worker, n, config.dim, config.window, w.tokens.data(),
                        parameter(table.embedding), parameter(table.embedding_bias), w.x.data());
          std::copy_n(w.x.data(), n * d, pass.stage(0, keys) + (tile.first_row + start) * d);
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
  auto sum = pass.sum_states([&](std::int64_t context) { return pass.state(l, context); });
  backend.for_tiles(
      static_cast<std::int64_t>(pass.layout.tiles.size()), [&](int worker, std::int64_t t) {
        const Tile& tile = pass.layout.tiles[static_cast<std::size_t>(t)];
        Work& w = work(worker);
        auto part = sum->begin_part();
        for (int start = 0; start < tile.rows; start += block) {
          const int n = std::min(block, tile.rows - start);
          const std::int64_t row = (tile.first_row + start) * d;
          fill_conv_window(pass, worker, tile, l, start, n);
          std::copy_n(pass.stage(l, false) + row, n * d, w.x.data());
          backend.local_conv(worker, n, config.dim, conv.width, conv.dilation, w.window.data(),
                             parameter(offsets(l).conv_weight), false, w.x.data());
          std::copy_n(w.x.data(), n * d, pass.stage(l, true) + row);
          key_half(w, l, n, part.get());
        }
        sum->end_part(t, std::move(part));
      });
}

template <class T>
void Encoder<T>::Impl::layer_sweep(Pass& pass, int l) {
  const std::int64_t d = config.dim;
  const bool last = l + 1 == config.layers, keys = !last && !config.has_conv(l + 1);
  auto sum = pass.sum_states([&](std::int64_t context) { return pass.state(l + 1, context); });
  backend.for_tiles(static_cast<std::int64_t>(pass.layout.tiles.size()), [&](int worker,
                                                                             std::int64_t t) {
    const Tile& tile = pass.layout.tiles[static_cast<std::size_t>(t)];
    Work& w = work(worker);
    auto part = keys ? sum->begin_part() : nullptr;
    for (int start = 0; start < tile.rows; start += block) {
      const int n = std::min(block, tile.rows - start);
      const std::int64_t row = (tile.first_row + start) * d;
      std::copy_n(pass.stage(l, true) + row, n * d, w.x.data());
      query_half(w, l, pass.state(l, tile.context), n);
      feed_forward(w, l, n);
      std::copy_n(w.x.data(), n * d, (last ? pass.stage(l, true) : pass.stage(l + 1, keys)) + row);
      if (keys) key_half(w, l + 1, n, part.get());
    }
    save_halo(pass, worker, t, l + 1);
    if (keys) sum->end_part(t, std::move(part));
  });
}

// Runs `layers` whole layers, and the key half (with its convolution) of the next.
template <class T>
void Encoder<T>::Impl::run_to(Pass& pass, int count) {
  embed_sweep(pass);
  for (int l = 0; l < config.layers; ++l) {
    if (l == count && !pass.want_keys) return;
    if (config.has_conv(l)) conv_sweep(pass, l);
    if (l == count) return;
    layer_sweep(pass, l);
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

// --- public
// ---------------------------------------------------------------------------------------

template <class T>
Encoder<T>::Encoder(const ModelConfig& config, kernels::Backend<T>& backend, bool training,
                    int block_rows)
    : impl_(std::make_unique<Impl>(config, backend, training, block_rows)) {}
template <class T>
Encoder<T>::~Encoder() = default;

template <class T>
const ParameterTable& Encoder<T>::table() const {
  return impl_->table;
}

template <class T>
void Encoder<T>::set_parameters(const T* parameters) {
  impl_->set_parameters(parameters);
}

template <class T>
void Encoder<T>::log_probs(Batch batch, std::span<const std::int64_t> rows, T* log_probs) {
  typename Impl::Pass pass(*impl_, batch);
  impl_->run_to(pass, impl_->config.layers - 1);
  impl_->last_layer_log_probs(pass, rows, log_probs);
}

template <class T>
void Encoder<T>::hidden(Batch batch, int layer, const RowSink& sink) {
  Impl& m = *impl_;
  typename Impl::Pass pass(m, batch);
  pass.want_keys = false;
  m.run_to(pass, layer);
  const std::int64_t d = m.config.dim;
  const bool last = layer == m.config.layers;
  // In inference there is one stage: what the sweeps left is the stream after `layer` layers.
  const T* x = pass.stages[0].data();
  m.backend.for_tiles(
      static_cast<std::int64_t>(pass.layout.tiles.size()), [&](int worker, std::int64_t t) {
        const Tile& tile = pass.layout.tiles[static_cast<std::size_t>(t)];
        for (int start = 0; start < tile.rows; start += m.block) {
          const int n = std::min(m.block, tile.rows - start);
          const std::int64_t row = tile.first_row + start;
          const T* values = x + row * d;
          if (last) {
            m.norm_rows(worker, n, values, m.table.final_norm, m.work(worker).h.data());
            values = m.work(worker).h.data();
          }
          sink(row, n, values);
        }
      });
}

namespace {
template <class T>
ObjectiveResult tally(const Objective& objective, const T* log_probs) {
  ObjectiveResult result;
  for (std::size_t i = 0; i < objective.rows.size(); ++i) {
    const T* p = log_probs + 4 * i;
    const auto kind = static_cast<std::size_t>(objective.kinds[i]);
    result.nll[kind] -= static_cast<double>(p[objective.targets[i]]);
    ++result.count[kind];
    result.correct[kind] += std::max_element(p, p + 4) - p == objective.targets[i];
  }
  return result;
}
}  // namespace

template <class T>
ObjectiveResult Encoder<T>::evaluate(Batch batch, const Objective& objective) {
  std::vector<T> p(4 * objective.rows.size());
  log_probs(batch, objective.rows, p.data());
  return tally(objective, p.data());
}

template <class T>
ObjectiveResult Encoder<T>::loss_and_gradient(Batch batch, const Objective& objective,
                                              double loss_scale, double* gradient) {
  typename Impl::Pass pass(*impl_, batch);
  impl_->run_to(pass, impl_->config.layers - 1);
  std::vector<T> p(4 * objective.rows.size());
  impl_->backward(pass, objective, loss_scale, gradient, p.data());
  return tally(objective, p.data());
}

template <class T>
std::uint64_t Encoder<T>::memory_needed(std::int64_t rows, std::int64_t contexts) const {
  const Impl& m = *impl_;
  const std::int64_t d = m.config.dim, layers = m.config.layers, ff = m.config.ff_dim;
  const std::int64_t tiles = rows / kernels::kTileRows + contexts;
  std::int64_t streams = 1, halo_rows = 2 * tiles * m.max_conv_halo();
  if (m.training) {
    streams = layers + 2;  // stages, dx twice
    for (int l = 0; l < layers; ++l) streams += m.config.has_conv(l);
    halo_rows = 0;
  }
  std::int64_t values = (rows * streams + halo_rows) * d;
  values += contexts * m.shape.state_size() *
            (m.training ? layers + 1 : std::min<std::int64_t>(layers, 2));
  values += 6 * m.table.total;  // parameters, packed copies
  const std::int64_t per_row = (m.training ? 12 * d + 4 * ff : 6 * d + ff) + 8 * m.config.heads;
  values += m.backend.workers() * (m.block + 2 * m.max_conv_halo()) * per_row;
  std::int64_t doubles = (2 * m.backend.workers() + 2) * m.shape.state_size();
  if (m.training) doubles += 2 * m.table.total;
  return static_cast<std::uint64_t>(values) * sizeof(T) +
         static_cast<std::uint64_t>(doubles) * sizeof(double);
}

template class Encoder<float>;
template class Encoder<double>;

}  // namespace m5
