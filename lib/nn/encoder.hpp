// The encoder: the order of the sweeps, forward and backward, on any device (ARCHITECTURE.md,
// "Sweeps").
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "kernels/sweeps.hpp"
#include "m5/config.hpp"
#include "m5/tokens.hpp"
#include "nn/objective.hpp"

namespace m5 {

template <class T>
class Encoder {
 public:
  using Batch = std::span<const TokenView>;
  using LayerSink = std::function<void(int layer, std::int64_t first_row, int n, const T* values)>;

  // host: of the device that the sweeps run on; outlives the encoder.
  Encoder(kernels::Backend<T>& host, std::unique_ptr<kernels::Sweeps<T>> sweeps);
  ~Encoder();

  const ParameterTable& table() const;
  int block_rows() const;  // that a worker holds at a time
  // Takes the memory of ready_memory(), copies and packs; call again after the parameters changed.
  // [table().total]
  void set_parameters(const T* parameters);
  // Of the genome memory alone, [table().total - table().encoder]: where the sweeps were given
  // theirs by an Update.
  void set_memory_parameters(const T* parameters);
  kernels::Sweeps<T>& sweeps();

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
  void hidden(Batch batch, int layer, const kernels::RowSink<T>& sink);
  void hidden(Batch batch, std::span<const int> layers, const LayerSink& sink,
              const std::function<void()>& on_failure = {});
  ObjectiveResult evaluate(Batch batch, const Objective& objective, const RowCounts& counts = {});
  // Adds the gradient of loss_scale * sum of -log p(target) to gradient[table().total], or, where
  // that is null, to that of the sweeps' Update. Needs sweeps for training.
  ObjectiveResult loss_and_gradient(Batch batch, const Objective& objective, double loss_scale,
                                    double* gradient, const RowCounts& counts = {});
  // The same of the memory's parameters alone: no backward pass, and sweeps for inference do.
  ObjectiveResult memory_gradient(Batch batch, const Objective& objective, double loss_scale,
                                  double* gradient, const RowCounts& counts);

  // What lives as long as the encoder, and what a pass over a batch adds; the caller's arrays
  // excluded. sequences: of all contexts.
  kernels::Bytes ready_memory() const;
  kernels::Bytes pass_memory(std::int64_t rows, std::int64_t contexts,
                             std::int64_t sequences) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

extern template class Encoder<float>;
extern template class Encoder<double>;

}  // namespace m5
