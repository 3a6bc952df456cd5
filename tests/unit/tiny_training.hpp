// A small model and sequences to train it on, for the tests of training on any device.
#pragma once

#include <cstdint>
#include <vector>

#include "base/random.hpp"
#include "data/genome_store.hpp"
#include "m5/config.hpp"
#include "m5/tokens.hpp"

namespace m5::test {

inline ModelConfig tiny_config(bool memory = false) {
  ModelConfig config;
  config.name = "tiny";
  config.dim = 16;
  config.layers = 2;
  config.heads = 8;
  config.ff_dim = 32;
  config.order = 2;
  config.bound = 1;
  config.window = 3;
  config.local_conv = {{3, 1}, {0, 1}};
  if (memory) config.memory = MemoryConfig::standard();
  config.validate();
  return config;
}

// Bases that follow from their neighbours, so that there is something to learn.
inline GenomeStore tiny_store(std::int64_t length = 3000) {
  std::vector<Token> tokens;
  for (std::int64_t i = 0; i < length; ++i) {
    const auto n = static_cast<std::uint64_t>(i);
    tokens.push_back(uniform(5, n) < 0.1 ? static_cast<Token>(uniform_below(6, n, 4))
                                         : static_cast<Token>(i % 3));
  }
  GenomeStore store;
  store.add("linear", tokens, false);
  tokens.resize(200);
  store.add("circular", tokens, true);
  store.add("short", std::vector<Token>{0, 4, 2}, false);
  return store;
}

}  // namespace m5::test
