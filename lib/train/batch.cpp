#include "train/batch.hpp"

namespace m5 {

void Batch::clear() {
  windows_.clear();
  truth_.clear();
  tokens_.clear();
  objective_ = {};
}

void Batch::add(const Window& window, const WindowId& id, const MaskOptions& mask) {
  const std::int64_t first_row = rows();
  append_window(store_, window, truth_);
  tokens_.insert(tokens_.end(), truth_.begin() + first_row, truth_.end());
  mask_window(id, mask, first_row, std::span(tokens_).subspan(static_cast<std::size_t>(first_row)),
              objective_);
  windows_.push_back(window);
}

std::vector<TokenView> Batch::views_of(const std::vector<Token>& all) const {
  std::vector<TokenView> views;
  const Token* tokens = all.data();
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
