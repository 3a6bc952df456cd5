#include "kernels/tiled/tiled_sweeps.hpp"

#include <string>

#include "kernels/tiled/tiled_pass.hpp"
#include "m5/error.hpp"

namespace m5::kernels {

namespace {

// Bytes of the fp32 workspace that a forward pass uses for each row of a block.
std::int64_t block_row_bytes(const ModelConfig& c) {
  const std::int64_t values = 3 * c.dim                                  // x, h, o
                              + (2 * kKeyDim + c.value_dim()) * c.heads  // q, kv
                              + c.ff_dim;                                // up
  return values * static_cast<std::int64_t>(sizeof(float));
}

// Rows up to which short sequences share a tile: full tiles, but some for every worker.
std::int64_t packed_rows(std::span<const TokenView> batch, int workers) {
  std::int64_t rows = 0;
  for (const TokenView& sequence : batch) rows += sequence.length;
  return std::min(kTileRows, rows / (4 * workers));
}

}  // namespace

template <class T>
Workspace<T>::Workspace(int worker, Backend<T>& backend, const ModelConfig& c, int block,
                        bool training)
    : id(worker), tokens(static_cast<std::size_t>(block + 2 * c.window)) {
  const auto buffer = [&](std::int64_t per_row, int extra_rows = 0) {
    Buffer<T> made(backend, static_cast<std::size_t>(per_row * (block + extra_rows)));
    // Touched, so that it counts in what the process holds before anything is computed.
    std::fill_n(made.data(), made.size(), T(0));
    return made;
  };
  const std::int64_t d = c.dim, heads = c.heads, dv = c.value_dim(), ff = c.ff_dim;
  const int halo = max_conv_halo(c);
  x = buffer(d);
  h = buffer(d);
  q = buffer(kKeyDim * heads);
  kv = buffer((kKeyDim + dv) * heads);
  o = buffer(d);
  weight = buffer(heads);
  up = buffer(ff);
  if (halo > 0) window = buffer(d, 2 * halo);
  if (!training) return;
  d_logits = buffer(4);
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
  if (halo > 0) d_window = buffer(d, 2 * halo);
}

template <class T>
TiledSweeps<T>::TiledSweeps(Backend<T>& b, const ModelConfig& config, const SweepOptions& options,
                            int block_rows)
    : Sweeps<T>(config, options),
      backend(b),
      block(block_rows > 0 ? block_rows : b.preferred_block_rows(block_row_bytes(config))),
      shape(attention_shape(config)) {
  if (block % kRunRows != 0) {
    throw Error(ErrorKind::kUsage, "block rows must be a multiple of " + std::to_string(kRunRows));
  }
}

template <class T>
void TiledSweeps<T>::take_memory() {
  const ModelConfig& config = this->config();
  const bool training = this->options().training;
  parameters_ = Buffer<T>(backend, static_cast<std::size_t>(this->table().total));
  const auto use = training ? Backend<T>::kForwardAndBackward : Backend<T>::kForward;
  const int d = config.dim, heads = config.heads;
  layers_.clear();
  for (int l = 0; l < config.layers; ++l) {
    Layer layer;
    layer.query = backend.make_linear(d, kKeyDim * heads, use);
    layer.key_value = backend.make_linear(d, (kKeyDim + config.value_dim()) * heads, use);
    layer.output = backend.make_linear(d, d, use);
    layer.up = backend.make_linear(d, config.ff_dim, use);
    layer.down = backend.make_linear(config.ff_dim, d, use);
    layers_.push_back(std::move(layer));
  }
  std::vector<std::unique_ptr<Workspace<T>>> made;
  made.reserve(static_cast<std::size_t>(backend.workers()));
  for (int w = 0; w < backend.workers(); ++w) {
    made.push_back(std::make_unique<Workspace<T>>(w, backend, config, block, training));
  }
  workspaces_ = std::move(made);  // all, or none
}

template <class T>
void TiledSweeps<T>::load(const T* values) {
  if (workspaces_.empty()) take_memory();
  std::copy_n(values, this->table().total, parameters_.data());
  for (int l = 0; l < this->config().layers; ++l) {
    const LayerOffsets& at = this->table().layers[static_cast<std::size_t>(l)];
    const Layer& w = layer(l);
    backend.pack(*w.query, parameter(at.query), nullptr);
    backend.pack(*w.key_value, parameter(at.key_value), nullptr);
    backend.pack(*w.output, parameter(at.output_weight), parameter(at.output_bias));
    backend.pack(*w.up, parameter(at.up_weight), parameter(at.up_bias));
    backend.pack(*w.down, parameter(at.down_weight), parameter(at.down_bias));
  }
}

template <class T>
std::unique_ptr<Pass<T>> TiledSweeps<T>::begin(std::span<const TokenView> batch, int stages) {
  if (workspaces_.empty()) throw Error(ErrorKind::kInternal, "sweeps without parameters");
  return std::make_unique<TiledPass<T>>(*this, batch, stages);
}

template <class T>
TiledPass<T>::TiledPass(TiledSweeps<T>& sweeps, std::span<const TokenView> batch, int stages)
    : sweeps_(sweeps),
      backend_(sweeps.backend),
      config_(sweeps.config()),
      table_(sweeps.table()),
      shape_(sweeps.shape),
      training_(sweeps.options().training),
      block_(sweeps.block),
      batch_(batch),
      layout_(batch, training_ ? 0 : packed_rows(batch, backend_.workers())),
      state_size_(shape_.state_size()) {
  const bool bf16 = sweeps.options().bf16_residual;
  for (int s = 0; s < stages; ++s) stages_.emplace_back(backend_, layout_.rows, config_.dim, bf16);
  if (!training_) {
    halo_stride_ = max_conv_halo(config_);
    halos_ = Buffer<T>(
        backend_, layout_.pieces.size() * 2 * static_cast<std::size_t>(halo_stride_ * config_.dim));
  }
  const int kept_states = training_ ? config_.layers : std::min(config_.layers, 2);
  for (int s = 0; s < kept_states; ++s) {
    states_.emplace_back(backend_, static_cast<std::size_t>(layout_.contexts * state_size_));
  }
  total_.begin(state_size_);
}

template <class T>
std::unique_ptr<OrderedSum<double>> TiledPass<T>::sum_states(
    std::function<T*(std::int64_t)> destination) {
  return std::make_unique<StateSum>(
      state_size_, backend_.workers(),
      [this, destination = std::move(destination)](std::int64_t shared, const double* part) {
        const Piece& piece = layout_.piece(
            layout_.tile(layout_.shared_tiles[static_cast<std::size_t>(shared)]).first_piece);
        total_.add(part);
        if (!piece.last_of_context) return;
        backend_.attention_scale(shape_, total_.end(), destination(piece.context));
        total_.begin(state_size_);
      });
}

template <class T>
std::unique_ptr<Sweeps<T>> make_tiled_sweeps(Backend<T>& backend, const ModelConfig& config,
                                             const SweepOptions& options, int block_rows) {
  return std::make_unique<TiledSweeps<T>>(backend, config, options, block_rows);
}

template class TiledSweeps<float>;
template class TiledSweeps<double>;
template class TiledPass<float>;
template class TiledPass<double>;
template std::unique_ptr<Sweeps<float>> make_tiled_sweeps(Backend<float>&, const ModelConfig&,
                                                          const SweepOptions&, int);
template std::unique_ptr<Sweeps<double>> make_tiled_sweeps(Backend<double>&, const ModelConfig&,
                                                           const SweepOptions&, int);

}  // namespace m5::kernels
