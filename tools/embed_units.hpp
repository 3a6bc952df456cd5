// What m5 embed makes rows of: records, windows, bases or features; and the two stages of its run,
// the model with its pooling, and the writing.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "io/features.hpp"
#include "io/regions.hpp"
#include "m5/session.hpp"
#include "nn/pooling.hpp"
#include "sinks/embed_sink.hpp"
#include "tools/input.hpp"
#include "tools/run_memory.hpp"

namespace m5 {

struct EmbedUnits {
  std::string per = "record";  // "window", "base", "feature"
  std::int64_t window = 1000;  // nt
  std::int64_t step = 0;       // nt from one window to the next
  int layer = -1;              // -1: the last
  std::string pool = "mean";   // "max", "std"
  std::string features;        // file
  FeatureOptions feature_options;
};

// A row of the result to be: an interval of a record of the batch.
struct Unit {
  PoolInterval interval;
  std::size_t feature = 0;  // in the file of features
  bool joined = false;      // to the one before: another part of its feature
};

// Features by the name of their record, and the rows found for them. Throws Error(kInput) if there
// are none, and as read_features. units() and keep() may run on different threads.
class FeatureTable {
 public:
  explicit FeatureTable(const EmbedUnits& choice);

  // Sequences that the file calls circular.
  const std::set<std::string>& circular() const { return circular_; }
  bool wants(const std::string& record) const { return by_name_.count(record) > 0; }
  // Adds the units of this record; of records of one name the first counts.
  void units(const std::string& record, std::int64_t length, bool circular, std::int64_t sequence,
             std::vector<Unit>& units);
  void keep(const Unit& unit, std::int64_t bases, const std::vector<float>& values);
  const std::string& name(const Unit& unit) const { return features_[unit.feature].name; }
  // Throws Error(kInput) if a feature's record never came.
  void require_all() const;
  void start_over() { std::fill(taken_.begin(), taken_.end(), 0); }  // the records come once more
  // All rows in the order of the file, after require_all().
  void write(EmbedSink& sink) const;

 private:
  std::string path_;
  std::vector<Feature> features_;
  std::set<std::string> circular_;
  std::map<std::string, std::vector<std::size_t>> by_name_;
  std::vector<char> taken_;  // its record has come
  std::vector<std::vector<float>> rows_;
  std::vector<std::int64_t> bases_;
};

// A batch that went through the model, on its way to be written.
struct Embedded {
  InputBatch batch;
  std::vector<Unit> units;
  std::unique_ptr<Pooler> pooler;  // none with --per base, whose rows are written as they come
};

class Embedder {
 public:
  // row_memory: bytes the sink keeps of a row until the end. The references must stay.
  Embedder(const EmbedUnits& choice, Session& session, RegionSelector& selector,
           FeatureTable& features, std::uint64_t row_memory);

  int layer() const { return layer_; }
  bool wants(const std::string& record) const {
    return choice_.per == "feature" ? features_.wants(record) : selector_.wants(record);
  }
  std::vector<Unit> units_of(const InputBatch& batch);
  // Bytes the process takes while this batch is in the model, the one before it is written, and the
  // rows of all so far are kept. Once a batch, in their order.
  std::uint64_t memory(const InputBatch& batch, const std::vector<Unit>& units);
  const RunMemory& run_memory() const { return run_memory_; }

  // check is called now and then, from several threads, and may throw. sink: for --per base.
  Embedded compute(InputBatch batch, std::vector<Unit> units, EmbedSink& sink,
                   const std::function<void()>& check);
  void write(Embedded& embedded, EmbedSink& sink);

 private:
  Pool pool() const {
    return choice_.pool == "max" ? Pool::kMax : choice_.pool == "std" ? Pool::kStd : Pool::kMean;
  }
  std::vector<Interval> intervals_of(const InputRecord& record);
  std::uint64_t kept_memory(const std::vector<Unit>& units) const;
  std::int64_t rows_ahead() const;
  void check_finite(const InputBatch& batch, std::int64_t first_row, int n,
                    const float* values) const;
  RowOrder::Sink base_rows(const InputBatch& batch, const std::vector<Unit>& units,
                           EmbedSink& sink) const;

  const EmbedUnits& choice_;
  Session& session_;
  RegionSelector& selector_;
  FeatureTable& features_;
  const RunMemory run_memory_;
  const std::uint64_t row_memory_;
  const int layer_, dim_;
  std::uint64_t kept_ = 0;     // bytes of the rows so far
  std::uint64_t written_ = 0;  // bytes of the batch before
};

}  // namespace m5
