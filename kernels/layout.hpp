// How the sequences of a batch become tiles, the units of work of a sweep, and tiles become blocks,
// the rows a worker holds at a time.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/backend.hpp"
#include "m5/tokens.hpp"

namespace m5::kernels {

// Position in [0, length) of an unwrapped one, or -1 outside a linear sequence.
inline std::int64_t wrap(const TokenView& sequence, std::int64_t position) {
  if (position >= 0 && position < sequence.length) return position;
  if (!sequence.circular) return -1;
  position %= sequence.length;
  return position < 0 ? position + sequence.length : position;
}

// Rows of one sequence in one tile. The unit of every sum over a context.
struct Piece {
  std::int64_t sequence;   // index into the batch
  std::int64_t offset;     // of its first row in the sequence
  std::int64_t first_row;  // of its first row in the batch
  int rows;
  std::int64_t context;
  bool last_of_context;
};

// Consecutive rows of the batch: one piece, or, where they are short, the sequences of whole
// contexts.
struct Tile {
  std::int64_t first_row;
  int rows;
  std::int64_t first_piece, end_piece;
  std::int64_t shared;  // index into Layout::shared_tiles; -1: whole contexts
};

struct Layout {
  // Contexts of up to packed_rows rows share tiles of up to as many; 0: every sequence has tiles of
  // its own. Results do not depend on it, because sums are taken by pieces.
  explicit Layout(std::span<const TokenView> batch, std::int64_t packed_rows = 0) {
    for (std::size_t s = 0, end = 0; s < batch.size(); s = end) {
      std::int64_t context_rows = 0;
      for (end = s; end < batch.size() && batch[end].context == batch[s].context; ++end) {
        context_rows += batch[end].length;
      }
      const bool packed = context_rows <= packed_rows;
      if (packed && (tiles.empty() || tiles.back().shared >= 0 ||
                     tiles.back().rows + context_rows > packed_rows)) {
        const auto next = static_cast<std::int64_t>(pieces.size());
        tiles.push_back({rows, 0, next, next, -1});
      }
      for (; s < end; ++s) add_sequence(static_cast<std::int64_t>(s), batch[s], packed);
      if (!pieces.empty()) pieces.back().last_of_context = true;
      contexts = std::max(contexts, batch[end - 1].context + 1);
    }
  }

  const Piece& piece(std::int64_t i) const { return pieces[static_cast<std::size_t>(i)]; }
  const Tile& tile(std::int64_t i) const { return tiles[static_cast<std::size_t>(i)]; }
  std::int64_t index(const Tile& tile) const { return &tile - tiles.data(); }
  // Of a tile with one piece.
  std::int64_t context(const Tile& tile) const { return piece(tile.first_piece).context; }

  std::vector<Piece> pieces;
  std::vector<Tile> tiles;
  std::vector<std::int64_t> shared_tiles;  // tiles whose context may have other tiles, ascending
  std::vector<std::int64_t> first_piece;   // of each sequence
  std::int64_t rows = 0;
  std::int64_t contexts = 0;

 private:
  void add_sequence(std::int64_t s, const TokenView& sequence, bool packed) {
    first_piece.push_back(static_cast<std::int64_t>(pieces.size()));
    for (std::int64_t offset = 0; offset < sequence.length; offset += kTileRows) {
      const auto n = static_cast<int>(std::min(kTileRows, sequence.length - offset));
      const auto at = static_cast<std::int64_t>(pieces.size());
      pieces.push_back({s, offset, rows + offset, n, sequence.context, false});
      if (packed) {
        tiles.back().rows += n;
        tiles.back().end_piece = at + 1;
      } else {
        tiles.push_back(
            {rows + offset, n, at, at + 1, static_cast<std::int64_t>(shared_tiles.size())});
        shared_tiles.push_back(static_cast<std::int64_t>(tiles.size()) - 1);
      }
    }
    rows += sequence.length;
  }
};

// The rows of one piece in one block.
struct Part {
  std::int64_t piece;  // index into Layout::pieces
  int start;           // its first row, in the block
  int n;
  int offset;  // its first row, in the piece
};

// The blocks of a tile, in order: for (TileBlocks b(layout, tile, limit); b.next();). A block has
// up to `limit` rows, a multiple of kRunRows. Sums in fp32 run over kRunRows rows of a piece, so a
// piece is cut between two blocks at a multiple of that only.
class TileBlocks {
 public:
  TileBlocks(const Layout& layout, const Tile& tile, int limit)
      : layout_(layout), tile_(tile), limit_(limit), piece_(tile.first_piece) {}

  bool next() {
    start += n;
    n = 0;
    parts.clear();
    while (piece_ < tile_.end_piece) {
      const int left = layout_.piece(piece_).rows - offset_, room = limit_ - n;
      const int take = left <= room ? left : room / kRunRows * kRunRows;
      if (take == 0) break;
      parts.push_back({piece_, n, take, offset_});
      n += take;
      offset_ += take;
      if (take < left) break;
      ++piece_;
      offset_ = 0;
    }
    return n > 0;
  }

  int start = 0, n = 0;  // rows of the tile
  std::vector<Part> parts;

 private:
  const Layout& layout_;
  const Tile& tile_;
  const int limit_;
  std::int64_t piece_;
  int offset_ = 0;
};

}  // namespace m5::kernels
