// m5 score --per window and --per feature: a table with a row a window or feature.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "base/output.hpp"
#include "io/regions.hpp"
#include "nn/scoring.hpp"
#include "sinks/window_bits.hpp"
#include "tools/feature_table.hpp"
#include "tools/input.hpp"

namespace m5 {

struct ScoreTableOptions {
  std::string path;
  int digits = 4;
  std::vector<std::string> header;  // provenance lines, each with its leading #
  std::vector<std::string> files;   // of the input, as given
};

class ScoreTable {
 public:
  // The references must stay.
  ScoreTable(const UnitChoice& choice, FeatureTable& features, RegionSelector& selector)
      : choice_(choice), features_(features), selector_(selector) {
    if (choice.per == "feature") rows_.resize(features.features().size());
  }
  // Before the first record. Throws Error(kIo).
  void open(const ScoreTableOptions& options);

  // Records in the order of the input. Rows of windows are written when their file has ended, those
  // of features in the end, in the order of their file: before it, their percentile is not known.
  void add(const InputRecord& record, const SequenceScores& scores);
  // Writes what is left. Throws Error(kInput) if a feature's record never came.
  std::vector<OutputFile*> finish();

  // Bytes that stay of a record until its file has ended.
  std::uint64_t memory(const InputRecord& record) const;

 private:
  struct Row {
    std::int64_t begin = 0, end = 0;
    std::int64_t length = 0, scored = 0, gc = 0;  // nt
    double nll = 0;                               // sum over the scored bases, nats
    double percentile = 0, z_score = 0;
    std::size_t record = 0;  // of windows, into names_
    std::int64_t file = 0;

    double bits() const;  // a base; NaN of none
  };
  static void add_unit(const Unit& unit, const InputRecord& record, const SequenceScores& scores,
                       Row& row);
  std::vector<Unit> units_of(const InputRecord& record);
  void end_file();
  void write(const std::string& name, const std::string& sequence, char strand, const Row& row);
  void append_number(double value);  // NA: none

  const UnitChoice& choice_;
  FeatureTable& features_;
  RegionSelector& selector_;
  ScoreTableOptions options_;
  std::unique_ptr<OutputFile> file_;
  WindowBits genome_;  // the file, so far
  std::int64_t file_index_ = -1;
  std::deque<Row> rows_;              // of the windows of this file, or of all features
  std::deque<std::string> names_;     // of the records of this file that have windows
  std::vector<std::size_t> of_file_;  // features of this file
  std::string line_;
};

}  // namespace m5
