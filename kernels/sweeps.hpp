// THE waist between the encoder and a device: sweeps over all rows of a batch.
//
// What rows share is S_l, the state of each layer's attention, and what a convolution reads of its
// neighbours. Between two such meetings a device may do what it likes: that is a sweep. Each reads
// and writes the residual stream x [rows][dim] once.
//
// Rules
// - Everything that crosses the waist lies in host memory; x, the states S_l and their gradients
//   stay with the device, in the type it likes. So do parameters, moments and the gradient of the
//   parameters, where the device updates them itself (update.hpp).
// - The calls of a pass come one at a time, in the order of its declarations. A sweep may return
//   before it is done, unless it fills an array, adds to a gradient on the host or calls back:
//   head, hidden, head_backward, and embed_backward where the gradient is on the host, return when
//   all that went before is done.
// - x lies in stages: buffers numbered from 0, as many as begin() was asked for. A sweep with
//   in == out works in place; in inference there is one stage, and all of them do.
// - A result depends on the parameters, the sequences of its own context and the options alone: not
//   on threads, block size, or other contexts in the batch. Two runs on one device give the same
//   bits. S_l and dS_l are summed in T by at most kRunRows additions one after the other, then in
//   double, over a piece of a sequence, in the order of the pieces. A piece of the tiled sweeps is
//   of kTileRows rows, kSlabPieces of a context are a slab, and slabs are added in their order; one
//   of a GPU is of 512 rows (cuda/batch.hpp). Gradients of parameters are summed in T over parts
//   that the device chooses, then in double, in an order that is fixed.
// - What throws ends the pass, which is only destroyed then; the sweeps go on.
//
// T is float for devices; the tiled sweeps on the `ref` backend also come in double.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <span>

#include "kernels/backend.hpp"
#include "kernels/parameters.hpp"
#include "kernels/update.hpp"
#include "m5/config.hpp"
#include "m5/tokens.hpp"

namespace m5::kernels {

inline constexpr std::int64_t kSlabPieces = 64;  // 131,072 rows of a long sequence

// The attention of every layer of a model.
AttentionShape attention_shape(const ModelConfig& config);

struct SweepOptions {
  bool training = false;  // the backward sweeps are wanted
  // In inference: x is rounded to bf16 between sweeps. On a GPU x has the type of the operands.
  bool bf16_residual = false;
};

// The device calls back, `n` rows at a time, at most Sweeps::block_rows(): from several threads at
// once, in any order, but never for one worker at the same time. worker: in [0, Backend::workers()
// of the host). What throws ends the pass with it.
//
// Of the rows that were asked for, those from rows[first] on. log_probs [n][4]: in, of the encoder;
// out, as the caller wants them (the genome memory mixes itself in).
template <class T>
using FinishRows = std::function<void(int worker, std::int64_t first, int n, T* log_probs)>;
// The same, and out: d_logits [n][4], the gradient of the encoder's logits. d_rest +=, in T, of the
// parameters that are none of the encoder's, [ParameterTable::encoder, total).
template <class T>
using LossRows = std::function<void(int worker, std::int64_t first, int n, T* log_probs,
                                    T* d_logits, T* d_rest)>;
// Rows of the batch, values [n][dim]: whole runs of kRunRows rows of their sequences.
template <class T>
using RowSink = std::function<void(std::int64_t first_row, int n, const T* values)>;

// One forward pass, and maybe the backward pass, over one batch.
template <class T>
class Pass {
 public:
  virtual ~Pass() = default;

  // --- forward. next: the layer after this sweep goes on from `out`, so that the sweep sums its S
  // on the way (key half: norm, keys and values, bound, monomials); or, where a convolution comes
  // first, keeps what the convolution will need of x where it works in place.
  // x = embedding of the tokens.
  virtual void embed(int out, bool next) = 0;
  // x += conv(norm(x)). keys: sums S_layer.
  virtual void convolve(int layer, int in, int out, bool keys) = 0;
  // x += W_o attention(norm(x)), then x += W_2 gelu(W_1 norm(x)).
  virtual void layer(int layer, int in, int out, bool next) = 0;
  // The last layer, final norm, head and log softmax of the rows asked for alone, ascending over
  // the batch: log_probs [rows.size()][4], then finish (may be empty). Its S is there; `in` is what
  // enters its attention.
  virtual void head(int in, std::span<const std::int64_t> rows, T* log_probs,
                    const FinishRows<T>& finish) = 0;
  // Gives every row of x once; normed: by the final norm. on_failure (may be empty) is called as
  // soon as something throws, from any thread and maybe several times.
  virtual void hidden(int in, bool normed, const RowSink<T>& sink,
                      const std::function<void()>& on_failure) = 0;

  // --- backward, mirrored: head_backward; query_backward of all layers but the last, key_backward
  // and convolve_backward, from the last layer to the first; embed_backward. `in` is the stage that
  // the forward sweep read. gradient [ParameterTable::total] +=, on the host, until embed_backward
  // has returned; null where make_update gave an update, whose it is then, and only there. Between
  // two layers x may be computed again by convolve and layer, without keys and next: S_l are all
  // kept.

  // head, its gradient, and that of the last layer's query half and feed-forward.
  virtual void head_backward(int in, std::span<const std::int64_t> rows, T* log_probs,
                             const LossRows<T>& loss, double* gradient) = 0;
  // Of the query half and feed-forward: from dx of the layer's output, dx and dS_layer.
  virtual void query_backward(int layer, int in) = 0;
  // Of the key half: from dS_layer, which is a sum over all rows, adds to dx.
  virtual void key_backward(int layer, int in) = 0;
  virtual void convolve_backward(int layer, int in) = 0;
  virtual void embed_backward() = 0;
};

// What a pass is about, for the memory it takes.
struct PassSize {
  std::int64_t rows = 0, contexts = 0, sequences = 0;
  int stages = 1;
};
struct Bytes {
  std::uint64_t host = 0;    // of the process, resident
  std::uint64_t device = 0;  // of the device's own memory, where it has some
};

// The sweeps of one model on one device.
template <class T>
class Sweeps {
 public:
  virtual ~Sweeps() = default;

  const ModelConfig& config() const { return config_; }
  const SweepOptions& options() const { return options_; }
  const ParameterTable& table() const { return table_; }

  // Rows of one call back, at most.
  virtual int block_rows() const = 0;
  // Parameters [table().total], copied and packed; again after they changed. The first time it
  // takes what ready() tells: making the sweeps has taken next to nothing.
  virtual void load(const T* parameters) = 0;
  // The tokens stay where they are, and what they are, until the pass is destroyed. Throws
  // Error(kResource) with the bytes needed and free where they do not fit. One pass at a time.
  virtual std::unique_ptr<Pass<T>> begin(std::span<const TokenView> batch, int stages) = 0;

  // After load of state.parameters, at most once. Sweeps and state outlive the update; an average
  // is kept where state has one. Null: the host is to update, and to load (the default). Throws
  // Error(kResource) as begin() does.
  virtual std::unique_ptr<Update> make_update(std::span<const UpdatePart>, ParameterState&) {
    return nullptr;
  }

  // Of what lives as long as the sweeps (parameters, packed weights, workspaces), and what a pass
  // adds; before anything is taken.
  virtual Bytes ready_memory() const = 0;
  virtual Bytes pass_memory(const PassSize& size) const = 0;
  // Of the update, `averaged` or not, its ParameterState excluded. 0: the host is to update.
  virtual Bytes update_memory(std::span<const UpdatePart>, bool /*averaged*/) const { return {}; }
  // Of the device's own memory, bytes that are free; no bound where it has none.
  virtual std::uint64_t free_memory() const { return std::numeric_limits<std::uint64_t>::max(); }

 protected:
  Sweeps(const ModelConfig& config, const SweepOptions& options)
      : config_(config), options_(options), table_(config) {}

 private:
  const ModelConfig config_;
  const SweepOptions options_;
  const ParameterTable table_;
};

}  // namespace m5::kernels
