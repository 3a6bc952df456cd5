#include "kernels/cuda/batch.hpp"

#include <algorithm>

#include "kernels/layout.hpp"

namespace m5::kernels::cuda {

void Cut::finish(std::int64_t most_rows) {
  for (std::size_t p = 0; p < pieces.size(); ++p) {
    const Piece& piece = pieces[p];
    const auto index = static_cast<std::int64_t>(p);
    const bool new_chunk = chunks.empty() || chunks.back().rows + piece.rows > most_rows ||
                           chunks.back().pieces == most_pieces(most_rows);
    if (new_chunk) {
      chunks.push_back({rows, 0, index, 0, static_cast<std::int64_t>(spans.size()), 0});
    }
    Chunk& chunk = chunks.back();
    const bool begins = p == 0 || pieces[p - 1].context != piece.context;
    if (new_chunk || begins) {
      const auto at = static_cast<std::int32_t>(chunk.pieces);
      spans.push_back({piece.context, at, at, begins, 0});
      ++chunk.spans;
    }
    ++spans.back().end_piece;
    spans.back().ends = p + 1 == pieces.size() || pieces[p + 1].context != piece.context;
    ++chunk.pieces;
    chunk.rows += piece.rows;
    rows += piece.rows;
  }
}

DeviceCut::DeviceCut(Device& device, Cut c)
    : cut(std::move(c)),
      pieces_(device, static_cast<std::int64_t>(cut.pieces.size()), "the pieces of a batch"),
      spans_(device, static_cast<std::int64_t>(cut.spans.size()), "the pieces of a batch") {
  device.upload(pieces_.data(), cut.pieces.data(), pieces_.bytes());
  device.upload(spans_.data(), cut.spans.data(), spans_.bytes());
}

TokenTransfer::TokenTransfer(Device& device)
    : device_(device),
      buffers_{Transfer<Token>(device, kTokens), Transfer<Token>(device, kTokens)} {}

void TokenTransfer::begin(Token* to) {
  to_ = to;
  filled_ = 0;
}

void TokenTransfer::add(const Token* tokens, std::int64_t n) {
  while (n > 0) {
    const std::int64_t some = std::min(n, kTokens - filled_);
    std::copy_n(tokens, some, buffers_[current_].values.data() + filled_);
    tokens += some;
    n -= some;
    filled_ += some;
    if (filled_ == kTokens) flush();
  }
}

void TokenTransfer::flush() {
  Transfer<Token>& full = buffers_[current_];
  device_.upload_pinned(to_, full.values.data(), static_cast<std::size_t>(filled_) * sizeof(Token));
  full.done.record();
  begin(to_ + filled_);
  current_ = 1 - current_;
  buffers_[current_].done.wait();
}

Batch::Batch(Device& device, TokenTransfer& transfer, std::span<const TokenView> sequences,
             int window, std::int64_t most_rows) {
  Cut cut;
  std::int64_t padded = 0;
  for (const TokenView& s : sequences) {
    first_row_.push_back(rows);
    context_.push_back(static_cast<std::int32_t>(s.context));
    contexts = std::max(contexts, s.context + 1);
    for (std::int64_t offset = 0; offset < s.length; offset += kPieceRows) {
      const auto n =
          static_cast<std::int32_t>(std::min<std::int64_t>(kPieceRows, s.length - offset));
      cut.add({rows + offset, rows, s.length, padded + offset, n,
               static_cast<std::int32_t>(s.context), s.circular, 0});
    }
    rows += s.length;
    padded += s.length + 2 * window;
  }
  cut.finish(most_rows);
  all = DeviceCut(device, std::move(cut));

  tokens = Array<Token>(device, padded, "the tokens of a batch");
  transfer.begin(tokens.data());
  for (const TokenView& s : sequences) {
    const auto add_outside = [&](std::int64_t first) {
      for (std::int64_t i = first; i < first + window; ++i) {
        const std::int64_t at = wrap(s, i);
        const Token token = at < 0 ? kTokenPad : s.tokens[at];
        transfer.add(&token, 1);
      }
    };
    add_outside(-window);
    transfer.add(s.tokens, s.length);
    add_outside(s.length);
  }
  transfer.flush();
}

Cut Batch::cut_rows(std::span<const std::int64_t> asked, std::int64_t most_rows) const {
  Cut cut;
  std::size_t i = 0;
  while (i < asked.size()) {
    const auto next = std::upper_bound(first_row_.begin(), first_row_.end(), asked[i]);
    const auto sequence = static_cast<std::size_t>(next - first_row_.begin()) - 1;
    const std::int64_t end = next == first_row_.end() ? rows : *next;
    std::size_t n = 1;
    while (n < kPieceRows && i + n < asked.size() && asked[i + n] < end) ++n;
    cut.add({static_cast<std::int64_t>(i), first_row_[sequence], end - first_row_[sequence], 0,
             static_cast<std::int32_t>(n), context_[sequence], 0, 0});
    i += n;
  }
  cut.finish(most_rows);
  return cut;
}

}  // namespace m5::kernels::cuda
