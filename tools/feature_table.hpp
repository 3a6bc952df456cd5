// Windows and features, of which m5 embed and m5 score make rows; and the rows of m5 embed --per
// feature, which are written in the order of the file.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "io/features.hpp"
#include "nn/pooling.hpp"
#include "sinks/embed_sink.hpp"
#include "tools/unit_choice.hpp"

namespace m5 {

// A row of the result to be: an interval of a record of the batch.
struct Unit {
  PoolInterval interval;
  std::size_t feature = 0;  // in the file of features
  char strand = '.';        // of the feature
  bool joined = false;      // to the one before: another part of its feature
};

// The windows of an interval: they stop at the first one that reaches its end, which may be
// shorter.
void add_windows(const UnitChoice& choice, std::int64_t sequence, const Interval& interval,
                 std::vector<Unit>& units);

// Features by the name of their record, and the rows found for them. Throws Error(kInput) as
// read_features. units() and keep() may run on different threads.
class FeatureTable {
 public:
  FeatureTable(const std::string& path, const FeatureOptions& options);

  // Sequences that the file calls circular.
  const std::set<std::string>& circular() const { return circular_; }
  bool wants(const std::string& record) const { return by_name_.count(record) > 0; }
  // Adds the units of this record. Throws Error(kInput) for a feature that does not fit it, and for
  // a second record of its name.
  void units(const std::string& record, std::int64_t length, bool circular, std::int64_t sequence,
             std::vector<Unit>& units);
  // What its record is called in the output.
  void call_sequence(std::size_t feature, const std::string& label) {
    features_[feature].seqid = label;
  }
  // row: its file and bases.
  void keep(std::size_t feature, const EmbedRow& row, const std::vector<float>& values);
  const std::string& name(const Unit& unit) const { return features_[unit.feature].name; }
  // Of those whose record came, begin and end are where they were placed.
  const std::vector<Feature>& features() const { return features_; }
  // Throws Error(kInput) if a feature's record never came.
  void require_all() const;
  // Throws Error(kInput) if the features, whose records have all come, are not together by record,
  // and in each by their starts.
  void require_order() const;
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
  std::vector<std::uint32_t> files_;  // of the record
};

// Throws Error(kInput) for a feature that does not fit the records of the files, or is of none,
// where that can be known beforehand.
void check_features(FeatureTable& features, const std::vector<std::string>& files,
                    const CommonOptions& options);

}  // namespace m5
