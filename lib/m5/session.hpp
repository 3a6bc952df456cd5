// Inference: a model made ready on a device with a number of threads.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "m5/export.hpp"
#include "m5/model.hpp"
#include "m5/tokens.hpp"

namespace m5 {

enum class Precision { kFp32, kBf16 };

struct SessionOptions {
  int threads = 0;  // all worker threads; 0: the CPUs this process may use
  Precision precision = Precision::kFp32;
  std::string device = "cpu";  // "cpu", "cuda" or "cuda:N" (a GPU), "auto", "ref" (slow oracle)
  // The residual stream in bf16 between sweeps: half the memory. Of the CPU; a GPU has it in the
  // type of its products.
  bool bf16_residual = false;
  int block_rows = 0;  // rows a worker holds at a time, a multiple of 128; 0: chosen
};

// Rows are numbered over the concatenated sequences: sequence 0 first. Results depend on the model,
// the sequences and the two precisions only: not on threads, block size or the other contexts in
// the call. Arguments are checked before anything is computed: Error(kUsage) names what is wrong,
// such as an empty sequence, a token that may not be there, a context or a row out of order. A
// session takes one call at a time, and belongs to the process that made it: a second call
// meanwhile, or one after fork(), is Error(kUsage), too.
class M5_API Session {
 public:
  // The model is copied. Throws Error(kModel) for a config that does not validate, Error(kUsage)
  // for another number of parameters than it has, and for options out of range, Error(kResource)
  // without the device or the memory.
  Session(const Model& model, const SessionOptions& options);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  const ModelConfig& config() const;
  int threads() const;
  std::string device_name() const;  // such as "cpu AVX3_ZEN4, fp32"

  // log_probs[r][b] = log p(base b at rows[r] | the tokens given), nats, [rows.size(), 4].
  // rows strictly ascending. Throws Error(kNumeric) if a value is not finite. counts: of a model
  // with a genome memory, what that knows of the rows (Error(kUsage) without one); empty: the
  // encoder alone. For the scores of `m5 score` see m5/scoring.hpp.
  void log_probs(std::span<const TokenView> sequences, std::span<const std::int64_t> rows,
                 float* log_probs, const RowCounts& counts = {});

  // Calls sink(first_row, n, values) for blocks of rows that together cover every row once, from
  // several threads at a time and in any order. values: [n, dim], the residual stream after `layer`
  // blocks (0 = embedding, config.layers = last); the last one after the final norm.
  // Values are not checked: extreme weights can give NaN. For the rows of `m5 embed` see
  // m5/embedding.hpp.
  using RowSink = std::function<void(std::int64_t first_row, int n, const float* values)>;
  void hidden(std::span<const TokenView> sequences, int layer, const RowSink& sink);
  // The same after several layers, strictly ascending, in one pass: all rows of one layer before
  // those of the next. on_failure, when set, is called as soon as something throws, from any thread
  // and maybe several times: for a sink whose calls wait for each other, as the rows that are left
  // will not come. It must not throw.
  using LayerSink =
      std::function<void(int layer, std::int64_t first_row, int n, const float* values)>;
  void hidden(std::span<const TokenView> sequences, std::span<const int> layers,
              const LayerSink& sink, const std::function<void()>& on_failure = {});

  // Calls work(worker, task) for every task in [0, tasks), on the threads of the session.
  void for_each(std::int64_t tasks, const std::function<void(int worker, std::int64_t task)>& work);

  // From now on log_probs and hidden report every finished layer by call(done, of), on the thread
  // that called them; what it throws ends them. Empty: no more reports.
  void on_layer(const std::function<void(int done, int of)>& call);

  // Bytes that log_probs or hidden will take for so many rows in so many contexts and, all of them
  // together, sequences, all told; with no rows, what the session has by now. rows: 0 to 10^12,
  // contexts and sequences: 0 to 10^9; sequences 0: as many as contexts.
  std::uint64_t memory_needed(std::int64_t rows, std::int64_t contexts = 1,
                              std::int64_t sequences = 0) const;
  // The same of a GPU's own memory, and what of it the session has or could take; 0 on a CPU.
  std::uint64_t device_memory_needed(std::int64_t rows, std::int64_t contexts = 1,
                                     std::int64_t sequences = 0) const;
  std::uint64_t device_memory_available() const;
  // Floating-point operations of one forward pass, per row (the convention of `m5 bench speed`).
  double forward_flops_per_row() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// The CPUs this process may use: affinity mask and cgroup quota.
M5_API int available_cpus();

}  // namespace m5
