#include "kernels/cuda/sweeps.hpp"

#include <algorithm>
#include <string>

#include "m5/error.hpp"

namespace m5::kernels::cuda {
AttentionSize attention_size(const ModelConfig& c, bool narrow) {
  AttentionSize size;
  size.heads = c.heads;
  size.value_dim = c.value_dim();
  size.order = c.order;
  size.features = c.features();
  size.bound = static_cast<float>(c.bound);
  size.tensor_cores = narrow && size.can_use_tensor_cores();
  return size;
}

namespace {

std::string megabytes(std::uint64_t bytes) { return std::to_string((bytes + 999999) / 1000000); }

int widest_convolution(const ModelConfig& c) {
  int width = 0;
  for (const LocalConv& conv : c.local_conv) width = std::max(width, conv.width);
  return width;
}

// What kChosen means (NOTES.md).
Fused chosen(Device& device, const CudaSetup& setup) {
  constexpr std::int64_t kRows = 20000;  // all of a GPU
  const int dim = setup.config.dim, ff = setup.config.ff_dim;
  if (setup.fused != Fused::kChosen) return setup.fused;
  if (!setup.bf16) return Fused::kNone;
  if (dim <= 128) return fuses_layers(dim, ff) ? Fused::kWarps : Fused::kNone;
  try {
    // Of the wider one columns enough that all of its buffers are used again.
    const bool agree = warpgroups_agree(device, dim, ff, kRows) ||
                       norm_gelu_agrees(device, dim, std::min(ff, 512), kRows);
    return agree ? Fused::kWarpgroups : Fused::kNone;
  } catch (const Error& e) {
    throw Error(ErrorKind::kResource, std::string(e.what()) + " (while a kernel was tried; with " +
                                          "M5_CUDA_FUSED=0 none is)");
  }
}

}  // namespace

// --- workspace

template <class E>
template <class Take>
void Workspace<E>::each(const CudaSetup& setup, Workspace& w, Take take) {
  const ModelConfig& c = setup.config;
  const AttentionSize attention = attention_size(c, std::is_same_v<E, bf16>);
  const std::int64_t rows = setup.chunk_rows, d = c.dim, ff = c.ff_dim, heads = c.heads;
  const std::int64_t keys = (kKeyDim + c.value_dim()) * heads;
  const bool training = setup.options.training;
  std::int64_t partial = most_pieces(rows) * attention.state();
  if (training) {
    partial = std::max(partial, most_pieces(rows) * widest_convolution(c) * d);
    partial = std::max(partial, sum_parts(rows) * std::max(ff, 4 * d));
    const std::int64_t parts = std::min(product_parts<E>(rows), kProductParts);
    const std::int64_t columns = std::max({ff, keys, d, std::int64_t{one_hot_columns(c.window)}});
    partial = std::max(partial, parts * d * columns);
  }
  take(w.x, rows * d);
  take(w.h, rows * d);
  take(w.z, rows * keys);
  take(w.o, rows * d);
  std::int64_t up = fuses_layers(setup) ? 0 : ff;
  if (training) up = std::max<std::int64_t>(ff, one_hot_columns(c.window));
  take(w.up, rows * up);
  take(w.log_probs, rows * 4);
  take(w.rows, rows);
  take(w.partial, partial);
  if (!training) return;
  for (Array<E>* member : {&w.a, &w.h2, &w.out, &w.dx, &w.dh, &w.d_o}) take(*member, rows * d);
  take(w.keep, rows * ff);
  take(w.d_up, rows * ff);
  take(w.dz, rows * keys);
  take(w.du, rows * (c.value_dim() + 1) * heads);
  take(w.weight, rows * heads);
  take(w.inverse, rows);
  take(w.d_logits, rows * 4);
}

template <class E>
Workspace<E>::Workspace(Device& device, const CudaSetup& setup) {
  each(setup, *this, [&](auto& array, std::int64_t count) {
    array = std::decay_t<decltype(array)>(device, count, "the rows of a chunk");
  });
}

template <class E>
std::uint64_t Workspace<E>::bytes(const CudaSetup& setup) {
  std::uint64_t sum = 0;
  Workspace none;
  each(setup, none, [&](auto& array, std::int64_t count) {
    sum += static_cast<std::uint64_t>(count) * sizeof(*array.data());
  });
  return sum;
}

// --- sweeps

template <class E>
CudaSweeps<E>::CudaSweeps(const CudaSetup& setup)
    : Sweeps<float>(setup.config, setup.options),
      setup_(setup),
      device_(setup.device_index),
      attention_(attention_size(setup.config, std::is_same_v<E, bf16>)),
      regions_(regions_of(table(), setup.config, attention_.tensor_cores)) {
  if (setup.chunk_rows < kPieceRows || setup.chunk_rows % kPieceRows != 0) {
    throw Error(ErrorKind::kUsage, "device cuda: the rows of a chunk must be a multiple of " +
                                       std::to_string(kPieceRows));
  }
  if (attention_.slice_bytes() > device_.shared_bytes()) {
    throw Error(ErrorKind::kResource, "device cuda: order " + std::to_string(attention_.order) +
                                          " needs " + std::to_string(attention_.slice_bytes()) +
                                          " bytes of shared memory, " + device_.name() + " has " +
                                          std::to_string(device_.shared_bytes()));
  }
  setup_.fused = chosen(device_, setup);  // runs kernels: behind what is refused without
}

template <class E>
const E* CudaSweeps<E>::operand(std::int64_t offset) const {
  if constexpr (std::is_same_v<E, float>) {
    return parameters_.data() + offset;
  } else {
    return operands_.data() + offset;
  }
}

template <class E>
Convolution CudaSweeps<E>::convolution(int layer) const {
  const LocalConv& conv = config().local_conv[static_cast<std::size_t>(layer)];
  return {config().dim, conv.width, conv.dilation, parameter(at(layer).conv_norm),
          parameter(at(layer).conv_weight)};
}

template <class E>
bool CudaSweeps<E>::any_convolution() const {
  return widest_convolution(config()) > 0;
}

template <class E>
void CudaSweeps<E>::require_free(std::uint64_t bytes, const std::string& what) const {
  const std::uint64_t free = device_.free_bytes();
  if (bytes <= free) return;
  throw Error(ErrorKind::kResource, "device cuda: " + what + " " + megabytes(bytes) + " MB, " +
                                        megabytes(free) + " MB are free on " + device_.name());
}

template <class E>
void CudaSweeps<E>::make_operands() {
  if constexpr (!std::is_same_v<E, float>) {
    convert(device_, device_regions_, table().total, parameters_.data(), operands_.data());
  }
}

template <class E>
void CudaSweeps<E>::load(const float* parameters) {
  if (parameters_.size() == 0) {
    require_free(ready_memory().device, "the model needs");
    products_ = std::make_unique<Products>(device_, setup_.chunk_rows, setup_.measured_products,
                                           operand_alignment(table()));
    parameters_ = Array<float>(device_, table().total, "the parameters");
    if (!std::is_same_v<E, float>) operands_ = Array<E>(device_, table().total, "the parameters");
    const auto regions = static_cast<std::int64_t>(regions_.size());
    device_regions_ = Array<Region>(device_, regions, "the parameters");
    device_.upload(device_regions_.data(), regions_.data(), device_regions_.bytes());
    if (options().training) {
      gradient_ = Array<double>(device_, table().total, "the gradient");
      head_sums_ = Array<double>(device_, 4 * config().dim, "the gradient");
    }
    const std::vector<double> weights = state_weights(attention_, config().coefficients);
    weights_ = Array<double>(device_, attention_.terms(), "the polynomial");
    device_.upload(weights_.data(), weights.data(), weights_.bytes());
    work_ = Workspace<E>(device_, setup_);
    tokens_ = std::make_unique<TokenTransfer>(device_);
    for (auto& transfer : asked_) {
      transfer = std::make_unique<AskedTransfer>(device_, setup_.chunk_rows);
    }
  }
  device_.upload(parameters_.data(), parameters, parameters_.bytes());
  make_operands();
  device_.finish();
}

template <class E>
Bytes CudaSweeps<E>::ready_memory() const {
  const auto count = [](std::int64_t n, std::size_t size) {
    return static_cast<std::uint64_t>(n) * size;
  };
  Bytes bytes;
  bytes.device = count(table().total, sizeof(float)) + Products::workspace_bytes() +
                 count(attention_.terms(), sizeof(double)) + Workspace<E>::bytes(setup_) +
                 regions_.size() * sizeof(Region);
  if (!std::is_same_v<E, float>) bytes.device += count(table().total, sizeof(E));
  if (options().training) bytes.device += count(table().total + 4 * config().dim, sizeof(double));
  bytes.host =
      TokenTransfer::kBytes +
      2 * count(setup_.chunk_rows, sizeof(std::int64_t) + 4 * sizeof(float)) +
      2 * count(hidden_rows() * config().dim, sizeof(E)) +
      count(std::int64_t{setup_.host->workers()} * kBlockRows * config().dim, sizeof(float));
  return bytes;
}

template <class E>
Bytes CudaSweeps<E>::pass_memory(const PassSize& size) const {
  const auto count = [](std::int64_t n, std::size_t bytes) {
    return static_cast<std::uint64_t>(n) * bytes;
  };
  const bool training = options().training, conv = any_convolution();
  const std::int64_t stream = size.rows * config().dim;
  const std::int64_t streams = size.stages + (conv && !training) + (training ? 1 + conv : 0);
  const std::int64_t kept = training ? config().layers : std::min(config().layers, 2);
  const std::int64_t states = (kept + training) * size.contexts * attention_.state();
  const std::int64_t queries = config().layers == 1 ? 0 : query_columns();
  // Of all rows and of those that are asked for.
  const std::int64_t pieces = 2 * (size.rows / kPieceRows + size.sequences);
  const std::int64_t tokens = size.rows + 2 * size.sequences * config().window;
  Bytes bytes;
  bytes.device = count(streams * stream + size.rows * queries, sizeof(E)) +
                 count(states, sizeof(float)) +
                 count(size.contexts * attention_.state(), sizeof(double)) +
                 count(pieces, sizeof(Piece) + sizeof(Span)) + count(tokens, sizeof(Token)) +
                 (conv ? count(size.rows, sizeof(float)) : 0);
  bytes.host = count(pieces, 2 * (sizeof(Piece) + sizeof(Span)));
  return bytes;
}

template <class E>
std::unique_ptr<Pass<float>> CudaSweeps<E>::begin(std::span<const TokenView> batch, int stages) {
  PassSize size;
  size.stages = stages;
  size.sequences = static_cast<std::int64_t>(batch.size());
  for (const TokenView& s : batch) {
    size.rows += s.length;
    size.contexts = std::max(size.contexts, s.context + 1);
  }
  require_free(pass_memory(size).device, std::to_string(size.rows) + " nt need");
  return std::make_unique<CudaPass<E>>(*this, batch, stages);
}

template struct Workspace<float>;
template struct Workspace<bf16>;
template class CudaSweeps<float>;
template class CudaSweeps<bf16>;

}  // namespace m5::kernels::cuda
