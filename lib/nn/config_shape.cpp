// What follows from the numbers of a config alone. A file of its own, without JSON: the library of
// the CUDA device has it too.
#include <string>

#include "m5/config.hpp"
#include "m5/error.hpp"

namespace m5 {
namespace {

[[noreturn]] void misuse(const std::string& what) {
  throw Error(ErrorKind::kUsage, "ModelConfig::" + what + "; validate() says what is allowed");
}

}  // namespace

int ModelConfig::value_dim() const {
  if (heads < 1 || dim < heads) misuse("value_dim: heads is " + std::to_string(heads));
  return dim / heads;
}

bool ModelConfig::has_conv(int layer) const {
  if (layer < 0 || layer >= layers) misuse("has_conv: there is no layer " + std::to_string(layer));
  if (local_conv.empty()) return false;
  if (local_conv.size() != static_cast<std::size_t>(layers)) {
    misuse("has_conv: local_conv has " + std::to_string(local_conv.size()) + " entries");
  }
  return local_conv[static_cast<std::size_t>(layer)].width > 0;
}

int ModelConfig::features() const {
  if (order < 0 || order > 8) misuse("features: order is " + std::to_string(order));
  std::int64_t count = 1;  // C(4 + p, p), one factor at a time: every step is a whole number
  for (std::int64_t i = 1; i <= kKeyDim; ++i) count = count * (order + i) / i;
  return static_cast<int>(count);
}

}  // namespace m5
