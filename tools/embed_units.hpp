// What m5 embed makes rows of: records, windows, bases or features; and the two stages of its run,
// the model with its pooling, and the writing.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "io/features.hpp"
#include "io/regions.hpp"
#include "m5/session.hpp"
#include "nn/pooling.hpp"
#include "sinks/embed_sink.hpp"
#include "tools/feature_table.hpp"
#include "tools/input.hpp"
#include "tools/run_memory.hpp"
#include "tools/unit_choice.hpp"

namespace m5 {

struct EmbedUnits : UnitChoice {     // per: "record", "window", "base", "feature", "file"
  std::string strand;                // "forward", "both", "feature"
  std::vector<std::int64_t> layers;  // ascending; none: the last
  std::string pool = "mean";         // "max", "std"
};

// A batch that went through the model, on its way to be written.
struct Embedded {
  InputBatch batch;
  std::vector<Unit> units;
  // Of the forward and of the reverse strand: none where no unit asks for it, and with --per base,
  // whose rows are written as they come.
  std::vector<Pooler> poolers[2];  // [strand][layer]
};

class Embedder {
 public:
  // files: of the input. row_memory: bytes the sink keeps of a row until the end. The references
  // must stay.
  Embedder(const EmbedUnits& choice, const std::vector<std::string>& files, Session& session,
           RegionSelector& selector, FeatureTable& features, std::uint64_t row_memory);

  const std::vector<int>& layers() const { return layers_; }
  bool wants(const std::string& record) const {
    return choice_.per == "feature" ? features_.wants(record) : selector_.wants(record);
  }
  std::vector<Unit> units_of(const InputBatch& batch);
  // How often the batch goes through the model: once for each strand that a unit asks for.
  int passes(const std::vector<Unit>& units) const;
  // Bytes the process takes while this batch is in the model, the one before it is written, and the
  // rows of all so far are kept. Once a batch, in their order.
  std::uint64_t memory(const InputBatch& batch, const std::vector<Unit>& units);
  const RunMemory& run_memory() const { return run_memory_; }

  // check is called now and then, from several threads, and may throw. sink: for --per base.
  Embedded compute(InputBatch batch, std::vector<Unit> units, EmbedSink& sink,
                   const std::function<void()>& check);
  void write(Embedded& embedded, EmbedSink& sink);
  void finish(EmbedSink& sink);  // after the last batch

 private:
  // Rows of one strand of the batch, whose tokens are turned round meanwhile; as Session::hidden,
  // with the index of the layer in layers_.
  using LayerRows =
      std::function<void(std::size_t layer, std::int64_t first_row, int n, const float* values)>;
  void hidden(InputBatch& batch, bool reverse, const LayerRows& rows,
              const std::function<void()>& on_failure = {});
  void compute_bases(Embedded& embedded, EmbedSink& sink, const std::function<void()>& check);
  bool reads(const Unit& unit, bool reverse) const;
  Pool pool() const {
    return choice_.pool == "max" ? Pool::kMax : choice_.pool == "std" ? Pool::kStd : Pool::kMean;
  }
  std::vector<Interval> intervals_of(const InputRecord& record);
  std::uint64_t kept_memory(const std::vector<Unit>& units) const;
  std::int64_t rows_ahead() const;
  void check_finite(const InputBatch& batch, bool reverse, std::int64_t first_row, int n,
                    const float* values) const;
  RowOrder::Sink base_rows(const InputBatch& batch, const std::vector<Unit>& units,
                           const std::vector<float>& reverse, EmbedSink& sink) const;
  void write_row(EmbedSink& sink);

  const EmbedUnits& choice_;
  const std::vector<std::string>& files_;
  const std::vector<std::string> samples_;  // their names in tables
  Session& session_;
  RegionSelector& selector_;
  FeatureTable& features_;
  const RunMemory run_memory_;
  const std::uint64_t row_memory_;
  const std::vector<int> layers_;
  const int dim_;
  const std::uint64_t row_bytes_;  // of the values of a row: [layers][dim]
  std::uint64_t kept_ = 0;         // bytes of the rows so far
  std::uint64_t written_ = 0;      // bytes of the batch before
  // The row that is being put together.
  bool open_ = false;
  EmbedRow row_;
  std::size_t feature_ = 0;
  std::vector<PoolSum> sums_[2];  // of either strand, [layer]
};

}  // namespace m5
