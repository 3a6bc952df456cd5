// --dry-run of m5 score and m5 embed: rows, memory, and the time expected from a short run over a
// sample of the input.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "m5/session.hpp"
#include "tools/input.hpp"
#include "tools/options.hpp"

namespace m5 {

class DryRun {
 public:
  // The references must stay. once_rows: nt of long and of short records that `once` of print asks
  // for; 0: it does nothing.
  DryRun(const CommonOptions& options, const Session& session, std::int64_t once_rows = 0);

  // memory: bytes the process takes when this batch goes through the model; passes: how often it
  // does.
  void add(const InputBatch& batch, std::uint64_t memory, int passes);
  // These records are what `once` of print is for.
  void add_once(const InputBatch& batch);
  // Runs the sample, and prints the lines. one_pass: what the command does with sequences in each
  // pass; once: what it does with them beside that.
  using Pass = std::function<void(std::span<const TokenView>)>;
  void print(const Pass& one_pass, const Pass& once = {}) const;

 private:
  struct Sample {
    std::vector<std::vector<Token>> tokens;
    std::vector<TokenView> views;
    std::int64_t rows = 0;

    void add(const TokenView& view, std::int64_t most_rows, bool one_context);
  };
  // Long and short records go through the model at different rates.
  struct Kind {
    std::int64_t rows = 0, model_rows = 0, once_rows = 0;  // of the input; through the model
    Sample sample, once;
  };
  Kind& kind_of(const TokenView& view);
  static double seconds_per_row(const Sample& sample, const Pass& one_pass);

  const CommonOptions& options_;
  const Session& session_;
  const std::int64_t sample_rows_, once_rows_;
  std::int64_t records_ = 0, rows_ = 0, model_rows_ = 0;
  std::uint64_t memory_ = 0, device_memory_ = 0;  // the greatest of any batch
  std::array<Kind, 2> kinds_;                     // short, long
};

}  // namespace m5
