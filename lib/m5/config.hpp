// What a model is: every number that shapes its computation. Stored as JSON in the model file.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "m5/export.hpp"

namespace m5 {

inline constexpr int kKeyDim = 4;              // d_k, fixed by the method
inline constexpr int kModelFormatVersion = 2;  // 2: with a genome memory; without one 1 is written

// Depthwise convolution over tokens before the attention of one layer. width 0: none.
struct LocalConv {
  int width = 0;     // odd, taps
  int dilation = 1;  // nt between taps
  bool operator==(const LocalConv&) const = default;
};

// Neighbours of a base that make a context of the genome memory: so many before and after it.
struct MemoryOrder {
  int left = 0, right = 0;
  bool operator==(const MemoryOrder&) const = default;
};

inline constexpr int kMostMemoryOrders = 64;

// The genome memory (ours, not the paper's): how often each base stands in the same contexts
// elsewhere in the genome, mixed into the log-probabilities by a small network. With {l, r} the
// orders hold {r, l}, so that the reverse strand can be read. No orders: no memory.
struct MemoryConfig {
  std::vector<MemoryOrder> orders;
  int hidden = 32;  // width of the mixing network, a multiple of 8
  // Two-sided 1 to 6, one-sided 11, 14 and 18, and 1 to 3 on one side with 5, 6 and 8 on the other.
  M5_API static MemoryConfig standard();
  bool empty() const { return orders.empty(); }
  bool operator==(const MemoryConfig&) const = default;
};

// For rows of a batch, ascending: how often A, C, G, T stand elsewhere in each of the memory's
// contexts around them, [rows][orders][4]. Called from several threads at a time. Empty: no memory.
using RowCounts = std::function<void(std::span<const std::int64_t> rows, std::uint32_t* counts)>;

struct M5_API ModelConfig {
  std::string name = "custom";
  int dim = 128;       // d, width of the residual stream; dim = heads * value_dim
  int layers = 4;      // L
  int heads = 16;      // H, a multiple of 8
  int ff_dim = 512;    // width of the feed-forward layer (4d in the presets)
  int order = 4;       // p, even, 2..8: degree of the polynomial
  double bound = 2.0;  // R: |q.k| < R
  int window = 15;     // w: the embedding reads 2w+1 tokens
  double norm_epsilon = 1e-5;
  std::vector<LocalConv> local_conv;  // empty, or one per layer
  std::vector<double> coefficients;   // c_0..c_p, minimax polynomial of exp on [-R, R]
  MemoryConfig memory;                // empty in all presets

  // Of the format that this config needs: 1 or 2.
  int format_version() const { return memory.empty() ? 1 : 2; }
  // These four throw Error(kUsage) where the fields they need are none that validate() accepts.
  int value_dim() const;
  bool has_conv(int layer) const;  // layer: 0..layers-1
  // Number of monomials of degree <= order in 4 variables: C(4 + p, p).
  int features() const;
  // Greatest relative error of the polynomial to exp on [-R, R]; see kernels/math/minimax.hpp.
  double approximation_error() const;
  // |o - o_exact| <= bound * max_j |v_j|, at any length: 2 eps / (1 - eps).
  double attention_error_bound() const;

  // Throws Error(kModel) that names the field and its allowed range. Fills `coefficients` when
  // they are empty.
  void validate();

  // JSON text, keys in a fixed order; of the fields as they are. from_json throws Error(kModel) on
  // an unknown key, a wrong type, or a newer format version (the message states both versions), and
  // validates.
  std::string to_json() const;
  static ModelConfig from_json(const std::string& text, const std::string& origin);

  // "nano", "small", "base" (paper-faithful) and "nano-conv" (with local convolutions).
  // Throws Error(kUsage) naming the known presets.
  static ModelConfig preset(const std::string& name);
  static std::vector<std::string> preset_names();

  bool operator==(const ModelConfig&) const = default;
};

}  // namespace m5
