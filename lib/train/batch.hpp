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
  std::vector<TokenView> views() const;

  const std::vector<Token>& tokens() const { return tokens_; }
  const Objective& objective() const { return objective_; }
  std::int64_t rows() const { return static_cast<std::int64_t>(tokens_.size()); }

 private:
  const GenomeStore& store_;
  std::vector<Window> windows_;
  std::vector<Token> tokens_;  // of all windows, masked
  Objective objective_;
};

}  // namespace m5
