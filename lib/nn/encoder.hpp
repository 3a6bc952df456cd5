// The encoder: forward and backward as sweeps over tiles of rows (ARCHITECTURE.md, "Sweeps").
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "kernels/backend.hpp"
#include "m5/config.hpp"
#include "m5/tokens.hpp"
#include "nn/encoder_memory.hpp"
#include "nn/memory_mix.hpp"
#include "kernels/parameters.hpp"

namespace m5 {

// What a chosen row asks of the model.
enum class TargetKind : std::uint8_t { kMasked = 0, kSubstituted = 1, kKept = 2 };

// The positions a training or validation step is scored on; rows ascending over the batch.
struct Objective {
  std::vector<std::int64_t> rows;
  std::vector<std::uint8_t> targets;  // original base 0..3
  std::vector<TargetKind> kinds;
};

struct ObjectiveResult {
  std::array<double, 3> nll{};  // sum of -log p(target), nats, by kind
  std::array<std::int64_t, 3> count{}, correct{};
  double total_nll() const { return nll[0] + nll[1] + nll[2]; }
  std::int64_t total_count() const { return count[0] + count[1] + count[2]; }
  ObjectiveResult& operator+=(const ObjectiveResult& o);
};

// The attention of every layer of a model.
kernels::AttentionShape attention_shape(const ModelConfig& config);

// Bytes of the fp32 workspace that a forward pass uses for each row of a block.
std::int64_t block_row_bytes(const ModelConfig& config);

template <class T>
class Encoder {
 public:
  using Batch = std::span<const TokenView>;
  using RowSink = std::function<void(std::int64_t first_row, int n, const T* values)>;
  using LayerSink = std::function<void(int layer, std::int64_t first_row, int n, const T* values)>;

  // block_rows: a multiple of kRunRows, or 0 for the backend's choice. bf16_residual, in inference
  // only: the residual stream is rounded to bf16 between the sweeps, half the memory.
  Encoder(const ModelConfig& config, kernels::Backend<T>& backend, bool training,
          int block_rows = 0, bool bf16_residual = false);
  ~Encoder();

  const ParameterTable& table() const;
  // Copies and packs; call again after the parameters changed. [table().total]
  void set_parameters(const T* parameters);

  // Training: the residual stream is kept where it enters every so many layers (1, the default:
  // everywhere) and computed again in between. Less memory, the same results.
  void keep_every(int layers);
  // Calls call(done, of) on the calling thread whenever a forward pass has finished a layer.
  void on_layer(const std::function<void(int done, int of)>& call);

  // log_probs[rows.size()][4]; rows ascending over the batch. counts, here and below: what the
  // genome memory of a model that has one knows of the rows; empty: the encoder alone.
  void log_probs(Batch batch, std::span<const std::int64_t> rows, T* log_probs,
                 const RowCounts& counts = {});
  // See Session::hidden.
  void hidden(Batch batch, int layer, const RowSink& sink);
  void hidden(Batch batch, std::span<const int> layers, const LayerSink& sink,
              const std::function<void()>& on_failure = {});
  ObjectiveResult evaluate(Batch batch, const Objective& objective, const RowCounts& counts = {});
  // Adds the gradient of loss_scale * sum of -log p(target) to gradient[table().total].
  // Needs training = true.
  ObjectiveResult loss_and_gradient(Batch batch, const Objective& objective, double loss_scale,
                                    double* gradient, const RowCounts& counts = {});
  // The same of the memory's parameters alone: no backward pass, and training = true is not needed.
  ObjectiveResult memory_gradient(Batch batch, const Objective& objective, double loss_scale,
                                  double* gradient, const RowCounts& counts);

  // What it takes, the caller's arrays excluded.
  EncoderMemory memory() const;
  std::uint64_t memory_needed(std::int64_t rows, std::int64_t contexts) const {
    return memory().ready() + memory().pass(rows, contexts, contexts);
  }

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

extern template class Encoder<float>;
extern template class Encoder<double>;

}  // namespace m5
