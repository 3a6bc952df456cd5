// What the tiled sweeps take: the one place that knows their formula.
#include <algorithm>

#include "base/memory.hpp"
#include "kernels/layout.hpp"
#include "kernels/tiled/tiled_sweeps.hpp"

namespace m5::kernels {
namespace {

std::uint64_t bytes(std::int64_t count, std::size_t size) {
  return block_memory(static_cast<std::uint64_t>(count) * size);
}

}  // namespace

template <class T>
Bytes TiledSweeps<T>::ready_memory() const {
  const ModelConfig& c = this->config();
  const bool training = this->options().training;
  const std::int64_t d = c.dim, heads = c.heads, dv = c.value_dim(), ff = c.ff_dim,
                     halo = max_conv_halo(c);
  const std::int64_t matrices = c.layers * (d * (2 * kKeyDim + dv) * heads + d * d + 2 * d * ff);
  const std::int64_t window = halo > 0 ? d : 0;
  // Values of a row: Workspace, and what products have of their operands in training.
  std::int64_t row = 3 * d + (2 * kKeyDim + dv + 1) * heads + ff + 4;
  std::int64_t window_row = window;
  if (training) {
    row += 6 * d + (4 * kKeyDim + 3 * dv + 1) * heads + 2 * ff + 3 * std::max(d, ff);
    window_row *= 2;
  }
  const std::int64_t worker = row * block + window_row * (block + 2 * halo);
  const std::int64_t states = 3 * shape.state_size();  // of contexts within one tile
  // Values of kRunRows rows in the attention kernels.
  const std::int64_t scratch = kRunRows * (dv + 1) * heads + c.features() * 64;
  return {.host = bytes(this->table().total, sizeof(T)) +
                  static_cast<std::uint64_t>(matrices * (training ? 2 : 1)) * sizeof(T) +
                  static_cast<std::uint64_t>(backend.workers()) *
                      (static_cast<std::uint64_t>(worker + scratch) * sizeof(T) +
                       static_cast<std::uint64_t>(states) * sizeof(double))};
}

template <class T>
Bytes TiledSweeps<T>::pass_memory(const PassSize& size) const {
  const ModelConfig& c = this->config();
  const SweepOptions& options = this->options();
  const std::int64_t d = c.dim, state = shape.state_size(), workers = backend.workers();
  // Sums go by pieces: a sequence has one, and one more for each tile it fills.
  const std::int64_t pieces = size.rows / kTileRows + size.sequences;
  const bool conv = max_conv_halo(c) > 0;
  std::int64_t streams = size.stages, states = std::min<std::int64_t>(c.layers, 2);
  if (options.training) {
    // And dx: twice where a convolution mixes rows. The states of all layers, and their gradient.
    streams += 1 + conv;
    states = c.layers + 1;
  }
  std::uint64_t sum =
      static_cast<std::uint64_t>(streams) *
          bytes(size.rows * d, options.bf16_residual ? sizeof(std::uint16_t) : sizeof(T)) +
      static_cast<std::uint64_t>(states) * bytes(size.contexts * state, sizeof(T));
  if (!options.training && conv) sum += bytes(2 * pieces * max_conv_halo(c) * d, sizeof(T));
  // Lists that grow by doubling: pieces, tiles and the views of sequences.
  sum += static_cast<std::uint64_t>(pieces) * 2 *
         (sizeof(Piece) + sizeof(Tile) + 2 * sizeof(std::int64_t));
  // Parts of the sums over tiles (OrderedSum), as many as there can be at a time.
  const std::int64_t parts = std::min(2 * workers, pieces);
  sum += static_cast<std::uint64_t>((parts + 2) * state) * sizeof(double);
  // Operands that workers convert, as many as have a block.
  if (!options.training) {
    const std::int64_t busy = std::min(workers, pieces);
    const std::int64_t held = std::min<std::int64_t>({block, size.rows, kTileRows});
    sum += static_cast<std::uint64_t>(busy * held) *
           static_cast<std::uint64_t>(std::max(c.dim, c.ff_dim) * backend.operand_bytes());
  }
  if (options.training) {
    const ParameterTable& table = this->table();
    std::int64_t most = table.embedding_bias + d - table.embedding;
    for (const LayerOffsets& at : table.layers) most = std::max(most, at.end - at.attention_norm);
    most = std::max(most, table.total - table.layers.back().attention_norm);
    sum += static_cast<std::uint64_t>(parts * most) * sizeof(T);
  }
  return {.host = sum};
}

template Bytes TiledSweeps<float>::ready_memory() const;
template Bytes TiledSweeps<double>::ready_memory() const;
template Bytes TiledSweeps<float>::pass_memory(const PassSize&) const;
template Bytes TiledSweeps<double>::pass_memory(const PassSize&) const;

}  // namespace m5::kernels
