#include "tools/feature_table.hpp"

#include <utility>

#include "m5/error.hpp"
#include "tools/input.hpp"

namespace m5 {

void add_windows(const UnitChoice& choice, std::int64_t sequence, const Interval& interval,
                 std::vector<Unit>& units) {
  for (std::int64_t begin = interval.begin; begin < interval.end; begin += choice.step) {
    const std::int64_t end = std::min(interval.end - begin, choice.window) + begin;
    units.emplace_back().interval = {sequence, begin, end};
    if (end == interval.end) break;
  }
}

FeatureTable::FeatureTable(const std::string& path, const FeatureOptions& options) : path_(path) {
  if (path.empty()) return;
  FeatureFile file = read_features(path, options);
  features_ = std::move(file.features);
  circular_ = std::move(file.circular);
  taken_.assign(features_.size(), 0);
  rows_.resize(features_.size());
  bases_.resize(features_.size());
  files_.resize(features_.size());
  for (std::size_t i = 0; i < features_.size(); ++i) by_name_[features_[i].seqid].push_back(i);
}

void FeatureTable::units(const std::string& record, std::int64_t length, bool circular,
                         std::int64_t sequence, std::vector<Unit>& units) {
  const auto found = by_name_.find(record);
  if (found == by_name_.end()) return;
  for (const std::size_t i : found->second) {
    Feature& feature = features_[i];
    if (taken_[i] != 0) {
      throw Error(ErrorKind::kInput, path_ + ": line " + std::to_string(feature.line) +
                                         ": feature '" + feature.name + "' is of record '" +
                                         record +
                                         "', and the input has more than one of this name: give "
                                         "the one file that is meant");
    }
    taken_[i] = 1;
    const std::vector<Interval> parts = place_feature(feature, path_, length, circular);
    for (std::size_t p = 0; p < parts.size(); ++p) {
      // Whole times around the record change nothing.
      const std::int64_t before = parts[p].begin / length * length;
      units.push_back(
          {{sequence, parts[p].begin - before, parts[p].end - before}, i, feature.strand, p > 0});
    }
    feature.begin = parts.front().begin;
    feature.end = parts.back().end;
  }
}

void FeatureTable::keep(std::size_t feature, const EmbedRow& row,
                        const std::vector<float>& values) {
  rows_[feature] = values;
  bases_[feature] = row.bases;
  call_sequence(feature, row.sequence);
  files_[feature] = static_cast<std::uint32_t>(row.file);
}

void FeatureTable::require_all() const {
  for (std::size_t i = 0; i < features_.size(); ++i) {
    if (taken_[i] != 0) continue;
    throw Error(ErrorKind::kInput, path_ + ": line " + std::to_string(features_[i].line) +
                                       ": no record '" + features_[i].seqid + "' in the input");
  }
}

void FeatureTable::require_order() const {
  std::set<std::string> seen;
  for (std::size_t i = 0; i < features_.size(); ++i) {
    const bool next = i == 0 || features_[i].seqid != features_[i - 1].seqid;
    if (next ? seen.insert(features_[i].seqid).second
             : features_[i].begin >= features_[i - 1].begin) {
      continue;
    }
    throw Error(ErrorKind::kInput,
                path_ + ": line " + std::to_string(features_[i].line) + ": feature '" +
                    features_[i].name +
                    "' is not behind the one before it: sort the file, or leave out --write-index");
  }
}

void FeatureTable::write(EmbedSink& sink) const {
  require_all();
  for (std::size_t i = 0; i < features_.size(); ++i) {
    const Feature& feature = features_[i];
    name_file(path_, [&] {
      sink.add({feature.name, feature.seqid, feature.begin, feature.end, feature.strand, bases_[i],
                files_[i]},
               rows_[i].data());
    });
  }
}

void check_features(FeatureTable& features, const std::vector<std::string>& files,
                    const CommonOptions& options) {
  if (!can_be_read_twice(files)) return;
  std::vector<Unit> units;
  for_each_record(files, options, [&](const SequenceRecord& record, bool circular) {
    features.units(record.name, static_cast<std::int64_t>(record.bases.size()), circular, 0, units);
    units.clear();
  });
  features.require_all();
  features.start_over();
}

}  // namespace m5
