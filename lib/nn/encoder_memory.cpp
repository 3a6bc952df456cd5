#include "nn/encoder_memory.hpp"

#include <algorithm>

#include "base/memory.hpp"
#include "nn/encoder_impl.hpp"
#include "nn/memory_mix.hpp"
#include "kernels/parameters.hpp"

namespace m5 {
namespace {

std::int64_t state_size(const ModelConfig& c) {
  kernels::AttentionShape shape;
  shape.heads = c.heads;
  shape.value_dim = c.value_dim();
  shape.features = c.features();
  return shape.state_size();
}

std::uint64_t bytes(std::int64_t count, std::size_t size) {
  return block_memory(static_cast<std::uint64_t>(count) * size);
}

}  // namespace

std::uint64_t EncoderMemory::ready() const {
  const auto size = static_cast<std::size_t>(value_bytes);
  const ParameterTable table(config);
  const std::int64_t d = config.dim, heads = config.heads, dv = config.value_dim(),
                     ff = config.ff_dim, halo = max_conv_halo(config);
  const std::int64_t matrices =
      config.layers * (d * (2 * kKeyDim + dv) * heads + d * d + 2 * d * ff);
  const std::int64_t window = halo > 0 ? d : 0;
  // Values of a row: Workspace, and what products have of their operands in training.
  std::int64_t row = 3 * d + (2 * kKeyDim + dv + 1) * heads + ff + 4;
  std::int64_t window_row = window;
  if (training) {
    row += 6 * d + (4 * kKeyDim + 3 * dv + 1) * heads + 2 * ff + 3 * std::max(d, ff);
    window_row *= 2;
  }
  const std::int64_t worker = row * block + window_row * (block + 2 * halo);
  const std::int64_t states = 2 * state_size(config);  // of contexts within one tile
  // Values of kRunRows rows in the attention kernels.
  const std::int64_t scratch = kernels::kRunRows * (dv + 1) * heads + config.features() * 64;
  return bytes(table.total, size) +
         static_cast<std::uint64_t>(matrices * (training ? 2 : 1)) * size +
         static_cast<std::uint64_t>(workers) *
             (MemoryMix<float>::work_bytes(config.memory, block, training) +
              static_cast<std::uint64_t>(worker + scratch) * size +
              static_cast<std::uint64_t>(states) * sizeof(double));
}

std::uint64_t EncoderMemory::pass(std::int64_t rows, std::int64_t contexts,
                                  std::int64_t sequences) const {
  const auto size = static_cast<std::size_t>(value_bytes);
  const std::int64_t d = config.dim, layers = config.layers, state = state_size(config);
  // Sums go by pieces: a sequence has one, and one more for each tile it fills.
  const std::int64_t pieces = rows / kernels::kTileRows + sequences;
  const bool conv = max_conv_halo(config) > 0;
  std::int64_t streams = 1, states = std::min<std::int64_t>(layers, 2);
  if (training) {
    // Stages, and dx: twice where a convolution mixes rows. The states of all layers, and theirs.
    streams = StagePlan(config, keep_every).buffers + 1 + conv;
    states = layers + 1;
  }
  std::uint64_t sum = static_cast<std::uint64_t>(streams) *
                          bytes(rows * d, bf16_residual ? sizeof(std::uint16_t) : size) +
                      static_cast<std::uint64_t>(states) * bytes(contexts * state, size);
  if (!training && conv) sum += bytes(2 * pieces * max_conv_halo(config) * d, size);
  // Lists that grow by doubling: pieces, tiles and the views of sequences.
  sum += static_cast<std::uint64_t>(pieces) * 2 *
         (sizeof(Piece) + sizeof(Tile) + 2 * sizeof(std::int64_t));
  // Parts of the sums over tiles (OrderedSum), as many as there can be at a time.
  const std::int64_t parts = std::min<std::int64_t>(2 * workers, pieces);
  sum += static_cast<std::uint64_t>((parts + 1) * state) * sizeof(double);
  // Operands that workers convert, as many as have a block.
  if (!training) {
    const std::int64_t busy = std::min<std::int64_t>(workers, pieces);
    const std::int64_t held = std::min<std::int64_t>({block, rows, kernels::kTileRows});
    sum += static_cast<std::uint64_t>(busy * held) *
           static_cast<std::uint64_t>(std::max(config.dim, config.ff_dim) * operand_bytes);
  }
  if (training) {
    const ParameterTable table(config);
    std::int64_t most = table.embedding_bias + d - table.embedding;
    for (const LayerOffsets& at : table.layers) most = std::max(most, at.end - at.attention_norm);
    most = std::max(most, table.total - table.layers.back().attention_norm);
    sum += static_cast<std::uint64_t>(parts * most) * size;
  }
  return sum;
}

}  // namespace m5
