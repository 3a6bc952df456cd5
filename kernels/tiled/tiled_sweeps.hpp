// What all passes of the tiled sweeps share: parameters, and the workspaces of the workers.
#pragma once

#include <algorithm>
#include <memory>
#include <vector>

#include "kernels/tiled/make_tiled_sweeps.hpp"
#include "kernels/tiled/slab_sum.hpp"

namespace m5::kernels {

// Rows on each side that the local convolution of layer l reads (0 without one), and the most of
// all layers.
inline int conv_halo(const ModelConfig& config, int l) {
  if (!config.has_conv(l)) return 0;
  const LocalConv& c = config.local_conv[static_cast<std::size_t>(l)];
  return (c.width - 1) / 2 * c.dilation;
}
inline int max_conv_halo(const ModelConfig& config) {
  int halo = 0;
  for (int l = 0; l < config.layers; ++l) halo = std::max(halo, conv_halo(config, l));
  return halo;
}

// The memory one worker needs for one block of rows; shapes per row in comments.
template <class T>
struct Workspace {
  Workspace(int worker, Backend<T>& backend, const ModelConfig& config, int block, bool training);

  const int id;  // of the worker

  Buffer<T> x;       // [d] residual stream, before and after a sub-layer
  Buffer<T> h;       // [d] normed
  Buffer<T> q;       // [4H]
  Buffer<T> kv;      // [(4+dv)H]
  Buffer<T> o;       // [dv H] attention output
  Buffer<T> weight;  // [H] sum of attention weights
  Buffer<T> up;      // [ff] after gelu
  Buffer<T> window;  // [d], block + 2 halo rows: normed input of the local convolution
  // Training only.
  Buffer<T> d_logits;              // [4]
  Buffer<T> a;                     // [d] residual stream between attention and feed-forward
  Buffer<T> h2;                    // [d] normed a
  Buffer<T> q_raw;                 // [4H] before bounding
  Buffer<T> kv_raw;                // [(4+dv)H]
  Buffer<T> up_raw;                // [ff] before gelu
  Buffer<T> dx, dh;                // [d]
  Buffer<T> d_o;                   // [dv H]
  Buffer<T> du;                    // [(dv+1) H]
  Buffer<T> dq;                    // [4H]
  Buffer<T> dkv;                   // [(4+dv)H]
  Buffer<T> d_up;                  // [ff]
  Buffer<T> d_window;              // [d], block + 2 halo rows
  std::vector<Token> tokens;       // block + 2w
  std::vector<double> state_part;  // [F][C][H], of a piece within one tile
  SlabSum state_total;             // of its context
  std::int64_t window_rows = 0;    // rows of the part that window holds
};

template <class T>
class TiledSweeps final : public Sweeps<T> {
 public:
  struct Layer {
    std::unique_ptr<Linear<T>> query, key_value, output, up, down;
  };

  TiledSweeps(Backend<T>& backend, const ModelConfig& config, const SweepOptions& options,
              int block_rows);
  int block_rows() const override { return block; }
  void load(const T* values) override;
  std::unique_ptr<Pass<T>> begin(std::span<const TokenView> batch, int stages) override;
  Bytes ready_memory() const override;
  Bytes pass_memory(const PassSize& size) const override;

  const T* parameter(std::int64_t offset) const { return parameters_.data() + offset; }
  const Layer& layer(int l) const { return layers_[static_cast<std::size_t>(l)]; }
  Workspace<T>& workspace(int worker) { return *workspaces_[static_cast<std::size_t>(worker)]; }

  Backend<T>& backend;
  const int block;
  const AttentionShape shape;

 private:
  void take_memory();

  Buffer<T> parameters_;
  std::vector<Layer> layers_;
  std::vector<std::unique_ptr<Workspace<T>>> workspaces_;  // empty: nothing is taken yet
};

}  // namespace m5::kernels
