// How the rows of a batch are cut for the kernels, on the host and copied to the device.
//
// A piece is up to kPieceRows rows of one sequence, counted from its first row: the unit of every
// sum over rows, so that a sum does not know its company. A chunk is as many whole pieces as its
// buffers have rows and partial sums for. A span is what a chunk has of one context.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/cuda/device.hpp"
#include "m5/tokens.hpp"

namespace m5::kernels::cuda {

// A thread of a kernel that sums states takes every fourth row: chains of 128 in fp32.
inline constexpr int kPieceRows = 512;

// Of a chunk: sequences of 128 nt fill its rows, shorter ones do not.
inline std::int64_t most_pieces(std::int64_t most_rows) { return most_rows / (kPieceRows / 4); }

struct Piece {
  std::int64_t row;           // its first, among the rows it is a piece of
  std::int64_t sequence_row;  // the first row of its sequence, in the batch
  std::int64_t length;        // of the sequence
  std::int64_t window;        // of its first row: where its tokens begin (Batch::tokens)
  std::int32_t rows;
  std::int32_t context;
  std::int32_t circular;
  std::int32_t unused;
};

struct Span {
  std::int32_t context;
  std::int32_t first_piece, end_piece;  // of the chunk
  std::int32_t begins, ends;            // nothing of the context is in an earlier, a later chunk
};

struct Chunk {
  std::int64_t row = 0, rows = 0;
  std::int64_t first_piece = 0, pieces = 0;
  std::int64_t first_span = 0, spans = 0;
};

// Pieces in order, cut into chunks and spans.
struct Cut {
  std::vector<Piece> pieces;
  std::vector<Span> spans;
  std::vector<Chunk> chunks;
  std::int64_t rows = 0;

  void add(const Piece& piece) { pieces.push_back(piece); }
  // Of chunks of up to most_rows rows, at least kPieceRows, and most_pieces(most_rows) pieces.
  void finish(std::int64_t most_rows);
};

// A cut and its copy on the device.
struct DeviceCut {
  DeviceCut() = default;
  DeviceCut(Device& device, Cut cut);
  // Of a chunk, on the device.
  const Piece* pieces(const Chunk& c) const { return pieces_.data() + c.first_piece; }
  const Span* spans(const Chunk& c) const { return spans_.data() + c.first_span; }

  Cut cut;

 private:
  Array<Piece> pieces_;
  Array<Span> spans_;
};

// Tokens on their way to the device: one buffer is filled while the other one is copied.
class TokenTransfer {
 public:
  explicit TokenTransfer(Device& device);
  static constexpr std::int64_t kTokens = 1 << 20;  // of a buffer
  static constexpr std::uint64_t kBytes = 2 * kTokens * sizeof(Token);

  void begin(Token* to);                          // on the device
  void add(const Token* tokens, std::int64_t n);  // behind those that were added before
  void flush();                                   // all that was added is queued

 private:
  Device& device_;
  std::array<Transfer<Token>, 2> buffers_;
  Token* to_ = nullptr;
  std::size_t current_ = 0;
  std::int64_t filled_ = 0;  // of the current buffer
};

// All rows of a batch.
struct Batch {
  Batch(Device& device, TokenTransfer& transfer, std::span<const TokenView> sequences, int window,
        std::int64_t most_rows);
  // Rows of the batch, ascending: pieces of them, numbered by their place in `rows`.
  Cut cut_rows(std::span<const std::int64_t> rows, std::int64_t most_rows) const;

  std::int64_t rows = 0, contexts = 0;
  DeviceCut all;
  // Of every sequence its tokens with `window` more on both sides: those that it wraps to, or PAD.
  Array<Token> tokens;

 private:
  std::vector<std::int64_t> first_row_;  // of each sequence
  std::vector<std::int32_t> context_;
};

}  // namespace m5::kernels::cuda
