#include "train/batch.hpp"

namespace m5 {

void Batch::clear() {
  windows_.clear();
  tokens_.clear();
  objective_ = {};
}

void Batch::add(const Window& window, const WindowId& id, const MaskOptions& mask) {
  const std::int64_t first_row = rows();
  append_window(store_, window, tokens_);
  mask_window(id, mask, first_row, std::span(tokens_).subspan(static_cast<std::size_t>(first_row)),
              objective_);
  windows_.push_back(window);
}

std::vector<TokenView> Batch::views() const {
  std::vector<TokenView> views;
  const Token* tokens = tokens_.data();
  for (const Window& window : windows_) {
    views.push_back({.tokens = tokens,
                     .length = window.length,
                     .circular = window.circular,
                     .context = static_cast<std::int64_t>(views.size())});
    tokens += window.length;
  }
  return views;
}

}  // namespace m5
