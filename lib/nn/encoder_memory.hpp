// What an encoder takes: the one place that knows its formula.
#pragma once

#include <cstdint>

#include "m5/config.hpp"

namespace m5 {

struct EncoderMemory {
  const ModelConfig& config;
  bool training = false;
  int workers = 1;
  int block = 0;               // rows that a worker holds at a time
  bool bf16_residual = false;  // the residual stream between sweeps
  int keep_every = 1;          // layers; training only
  int value_bytes = 4;         // of a number: float
  int operand_bytes = 0;       // of a value that a product converts first; 0: none

  // Bytes of what lives as long as the encoder: parameters, packed weights, workspaces.
  std::uint64_t ready() const;
  // Bytes that a pass over a batch adds. sequences: of all contexts.
  std::uint64_t pass(std::int64_t rows, std::int64_t contexts, std::int64_t sequences) const;
};

}  // namespace m5
