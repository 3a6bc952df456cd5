// Windows made ready for the encoder: tokens, masks, one context each.
#pragma once

#include <cstdint>
#include <vector>

#include "data/windows.hpp"
#include "train/masking.hpp"

namespace m5 {

class Batch {
 public:
  explicit Batch(const GenomeStore& store) : store_(store) {}

  void clear();
  // Masks the window by its id and adds it as a context of its own.
  void add(const Window& window, const WindowId& id, const MaskOptions& mask);
  // Looks at this batch; valid until the next add or clear.
  std::vector<TokenView> views() const { return views_of(tokens_); }
  // The same with nothing hidden or replaced.
  std::vector<TokenView> truth() const { return views_of(truth_); }

  const std::vector<Window>& windows() const { return windows_; }
  const std::vector<Token>& tokens() const { return tokens_; }
  const Objective& objective() const { return objective_; }
  std::int64_t rows() const { return static_cast<std::int64_t>(tokens_.size()); }

 private:
  std::vector<TokenView> views_of(const std::vector<Token>& all) const;

  const GenomeStore& store_;
  std::vector<Window> windows_;
  std::vector<Token> truth_;   // of all windows
  std::vector<Token> tokens_;  // masked
  Objective objective_;
};

}  // namespace m5
