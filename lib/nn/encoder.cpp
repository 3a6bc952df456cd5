#include "nn/encoder.hpp"

#include <algorithm>
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

kernels::AttentionShape attention_shape(const ModelConfig& config) {
  kernels::AttentionShape shape;
  shape.heads = config.heads;
  shape.value_dim = config.value_dim();
  shape.order = config.order;
  shape.bound = config.bound;
  shape.features = config.features();
  shape.polynomial = config.coefficients;
  shape.weights = kernels::feature_weights(config.coefficients);
  return shape;
}

std::int64_t block_row_bytes(const ModelConfig& c) {
  const std::int64_t values = 3 * c.dim                                  // x, h, o
                              + (2 * kKeyDim + c.value_dim()) * c.heads  // q, kv
                              + c.ff_dim;                                // up
  return values * static_cast<std::int64_t>(sizeof(float));
}

template <class T>
Workspace<T>::Workspace(int worker, kernels::Backend<T>& backend, const ModelConfig& c, int block,
                        int conv_halo, bool training)
    : id(worker), tokens(static_cast<std::size_t>(block + 2 * c.window)) {
  const auto buffer = [&](std::int64_t per_row, int extra_rows = 0) {
    Buffer<T> made(backend, static_cast<std::size_t>(per_row * (block + extra_rows)));
    // Touched, so that it counts in what the process holds before anything is computed.
    std::fill_n(made.data(), made.size(), T(0));
    return made;
  };
  const std::int64_t d = c.dim, heads = c.heads, dv = c.value_dim(), ff = c.ff_dim;
  x = buffer(d);
  h = buffer(d);
  q = buffer(kKeyDim * heads);
  kv = buffer((kKeyDim + dv) * heads);
  o = buffer(d);
  weight = buffer(heads);
  up = buffer(ff);
  if (training || !c.memory.empty()) d_logits = buffer(4);
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
Encoder<T>::Impl::Impl(const ModelConfig& c, kernels::Backend<T>& b, bool train, int block_rows,
                       bool bf16)
    : config(c),
      table(c),
      backend(b),
      training(train),
      block(block_rows > 0 ? block_rows : b.preferred_block_rows(block_row_bytes(c))),
      bf16_residual(bf16),
      shape(attention_shape(c)),
      mix(c.memory, table.memory) {
  if (block % kernels::kRunRows != 0) {
    throw Error(ErrorKind::kUsage,
                "block rows must be a multiple of " + std::to_string(kernels::kRunRows));
  }
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

StagePlan::StagePlan(const ModelConfig& config, int k)
    : buffer(2 * static_cast<std::size_t>(config.layers), -1) {
  std::vector<int> shared(2 * static_cast<std::size_t>(k), -1);
  for (int l = 0; l < config.layers; ++l) {
    for (const bool conv_done : {false, true}) {
      if (!conv_done && !config.has_conv(l)) continue;
      const bool enters_group = l % k == 0 && conv_done != config.has_conv(l);
      int own = -1;
      int& at =
          k == 1 || enters_group ? own : shared[static_cast<std::size_t>(2 * (l % k) + conv_done)];
      if (at < 0) at = buffers++;
      buffer[static_cast<std::size_t>(2 * l + conv_done)] = at;
    }
  }
}

namespace {
// Rows up to which short sequences share a tile: full tiles, but some for every worker.
std::int64_t packed_rows(std::span<const TokenView> batch, int workers) {
  std::int64_t rows = 0;
  for (const TokenView& sequence : batch) rows += sequence.length;
  return std::min(kernels::kTileRows, rows / (4 * workers));
}
}  // namespace

template <class T>
Encoder<T>::Impl::Pass::Pass(Impl& i, Batch b, const RowCounts& c)
    : impl(i),
      batch(b),
      counts(c),
      layout(b, i.training ? 0 : packed_rows(b, i.backend.workers())),
      state_size(i.shape.state_size()),
      plan(i.config, i.group_layers) {
  const int layers = impl.config.layers;
  const auto stage_memory = [&] {
    return RowStore<T>(impl.backend, layout.rows, impl.config.dim, impl.bf16_residual);
  };
  if (impl.training) {
    for (int s = 0; s < plan.buffers; ++s) stages.push_back(stage_memory());
  } else {
    stages.push_back(stage_memory());
    halo_stride = impl.max_conv_halo();
    halos = Buffer<T>(impl.backend, layout.pieces.size() * 2 *
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
      state_size, impl.backend.workers(),
      [this, destination = std::move(destination)](std::int64_t shared, const double* part) {
        const Piece& piece = layout.piece(
            layout.tile(layout.shared_tiles[static_cast<std::size_t>(shared)]).first_piece);
        for (std::size_t i = 0; i < total.size(); ++i) total[i] += part[i];
        if (!piece.last_of_context) return;
        impl.backend.attention_scale(impl.shape, total.data(), destination(piece.context));
        std::fill(total.begin(), total.end(), 0.0);
      });
}

// --- public

template <class T>
Encoder<T>::Encoder(const ModelConfig& config, kernels::Backend<T>& backend, bool training,
                    int block_rows, bool bf16_residual)
    : impl_(std::make_unique<Impl>(config, backend, training, block_rows, bf16_residual)) {
  if (training && bf16_residual) {
    throw Error(ErrorKind::kUsage, "training keeps the residual stream in fp32");
  }
}
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
void Encoder<T>::keep_every(int layers) {
  impl_->group_layers = std::clamp(layers, 1, impl_->config.layers);
}

template <class T>
void Encoder<T>::on_layer(const std::function<void(int done, int of)>& call) {
  impl_->on_layer = call;
}

template <class T>
void Encoder<T>::log_probs(Batch batch, std::span<const std::int64_t> rows, T* log_probs,
                           const RowCounts& counts) {
  typename Impl::Pass pass(*impl_, batch, counts);
  impl_->run(pass, impl_->config.layers - 1, true);
  impl_->last_layer_log_probs(pass, rows, log_probs);
}

template <class T>
void Encoder<T>::hidden(Batch batch, int layer, const RowSink& sink) {
  hidden(batch, {&layer, 1},
         [&](int, std::int64_t first, int n, const T* values) { sink(first, n, values); });
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
void Encoder<T>::hidden(Batch batch, std::span<const int> layers, const LayerSink& sink,
                        const std::function<void()>& on_failure) {
  Impl& m = *impl_;
  typename Impl::Pass pass(m, batch);
  WaitingSink waiting(on_failure);
  // In inference there is one stage: what the sweeps left is the stream after `layer` layers.
  const RowStore<T>& x = pass.stages[0];
  m.run(pass, layers.back(), false, [&](int layer) {
    if (!std::binary_search(layers.begin(), layers.end(), layer)) return;
    m.for_tiles(pass, {&waiting}, [&](auto& w, const Tile& tile) {
      for (TileBlocks b(pass.layout, tile, m.block); b.next();) {
        const std::int64_t row = tile.first_row + b.start;
        const T* values = x.read(row, b.n, w.x.data());
        if (layer == m.config.layers) {
          m.norm_rows(w.id, b.n, values, m.table.final_norm, w.h.data());
          values = w.h.data();
        }
        sink(layer, row, b.n, values);
      }
    });
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
ObjectiveResult Encoder<T>::evaluate(Batch batch, const Objective& objective,
                                     const RowCounts& counts) {
  std::vector<T> p(4 * objective.rows.size());
  log_probs(batch, objective.rows, p.data(), counts);
  return tally(objective, p.data());
}

template <class T>
ObjectiveResult Encoder<T>::loss_and_gradient(Batch batch, const Objective& objective,
                                              double loss_scale, double* gradient,
                                              const RowCounts& counts) {
  typename Impl::Pass pass(*impl_, batch, counts);
  impl_->run(pass, impl_->config.layers - 1, true);
  std::vector<T> p(4 * objective.rows.size());
  impl_->backward(pass, objective, loss_scale, gradient, p.data());
  return tally(objective, p.data());
}

template <class T>
ObjectiveResult Encoder<T>::memory_gradient(Batch batch, const Objective& objective,
                                            double loss_scale, double* gradient,
                                            const RowCounts& counts) {
  std::vector<T> p(4 * objective.rows.size());
  log_probs(batch, objective.rows, p.data());
  typename Impl::Pass pass(*impl_, batch, counts);
  impl_->memory_sweep(pass, objective, loss_scale, gradient, p.data());
  return tally(objective, p.data());
}

template <class T>
EncoderMemory Encoder<T>::memory() const {
  const Impl& m = *impl_;
  return {.config = m.config,
          .training = m.training,
          .workers = m.backend.workers(),
          .block = m.block,
          .bf16_residual = m.bf16_residual,
          .keep_every = m.group_layers,
          .value_bytes = static_cast<int>(sizeof(T))};
}

template class Encoder<float>;
template class Encoder<double>;

}  // namespace m5
