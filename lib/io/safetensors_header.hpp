// The header of a safetensors file, parsed as hostile input.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "io/safetensors.hpp"

namespace m5 {

inline constexpr std::uint64_t kLongestSafetensorsHeader = 10'000'000;  // bytes
inline constexpr std::size_t kMostSafetensorsEntries = 20'000;          // tensors and metadata

struct SafetensorsHeader {
  std::vector<Tensor>
      tensors;  // in the order of their data, which they cover without holes; no data
  Metadata metadata;
};

// text: the JSON header; data_bytes: what follows it in the file. Takes memory in proportion to
// `text`. Throws Error(kModel) naming `origin` and the tensor at fault.
SafetensorsHeader parse_safetensors_header(const std::string& text, std::uint64_t data_bytes,
                                           const std::string& origin);

}  // namespace m5
