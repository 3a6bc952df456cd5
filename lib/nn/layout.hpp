// How the sequences of a batch become tiles, the units of work of a sweep.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/backend.hpp"
#include "m5/tokens.hpp"

namespace m5 {

struct Tile {
  std::int64_t sequence;   // index into the batch
  std::int64_t offset;     // of its first row in the sequence
  std::int64_t first_row;  // of its first row in the batch
  int rows;
  std::int64_t context;
  bool last_of_context;
};

struct Layout {
  explicit Layout(std::span<const TokenView> batch) {
    for (std::size_t s = 0; s < batch.size(); ++s) {
      const TokenView& sequence = batch[s];
      for (std::int64_t offset = 0; offset < sequence.length; offset += kernels::kTileRows) {
        tiles.push_back({static_cast<std::int64_t>(s), offset, rows + offset,
                         static_cast<int>(std::min(kernels::kTileRows, sequence.length - offset)),
                         sequence.context, false});
      }
      first_tile.push_back(static_cast<std::int64_t>(tiles.size()) -
                           (sequence.length + kernels::kTileRows - 1) / kernels::kTileRows);
      rows += sequence.length;
      contexts = std::max(contexts, sequence.context + 1);
    }
    for (std::size_t t = 0; t < tiles.size(); ++t) {
      tiles[t].last_of_context = t + 1 == tiles.size() || tiles[t + 1].context != tiles[t].context;
    }
  }

  std::vector<Tile> tiles;
  std::vector<std::int64_t> first_tile;  // of each sequence
  std::int64_t rows = 0;
  std::int64_t contexts = 0;
};

}  // namespace m5
