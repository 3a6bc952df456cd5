#include "tools/score_table.hpp"

#include <cmath>
#include <limits>
#include <utility>

#include "sinks/formats.hpp"
#include "sinks/number.hpp"

namespace m5 {

double ScoreTable::Row::bits() const {
  if (scored == 0) return std::numeric_limits<double>::quiet_NaN();
  return metric_from_nll(Metric::kBits, nll / static_cast<double>(scored));
}

void ScoreTable::open(const ScoreTableOptions& options) {
  options_ = options;
  file_ = std::make_unique<OutputFile>(options.path, has_bgzf_suffix(options.path)
                                                         ? OutputFile::Format::kBgzf
                                                         : OutputFile::Format::kPlain);
  for (const std::string& line : options.header) file_->write(line + "\n");
  file_->write(
      "name\tsequence\tstart\tend\tstrand\tlength\tn_N\tgc\tbits\tpercentile\tz_score\tfile\n");
}

std::vector<Unit> ScoreTable::units_of(const InputRecord& record) {
  const auto length = static_cast<std::int64_t>(record.tokens.size());
  std::vector<Unit> units;
  if (choice_.per == "feature") {
    features_.units(record.name, length, record.circular, 0, units);
    return units;
  }
  std::vector<Interval> intervals = {{0, length}};
  if (!selector_.empty()) intervals = selector_.select(record.name, length);
  for (const Interval& interval : intervals) add_windows(choice_, 0, interval, units);
  return units;
}

void ScoreTable::add_unit(const Unit& unit, const InputRecord& record, const SequenceScores& scores,
                          Row& row) {
  const std::size_t length = record.tokens.size();
  for (std::int64_t i = unit.interval.begin; i < unit.interval.end; ++i) {
    const std::size_t at = static_cast<std::size_t>(i) % length;
    const Token token = record.tokens[at];
    ++row.length;
    if (!is_base(token)) continue;
    ++row.scored;
    row.gc += token == kTokenG || token == kTokenC;
    row.nll -= static_cast<double>(scores.log_p[at]);
  }
}

void ScoreTable::add(const InputRecord& record, const SequenceScores& scores) {
  if (record.file_index != file_index_) end_file();
  file_index_ = record.file_index;
  genome_.add(scores);
  bool named = false;
  for (const Unit& unit : units_of(record)) {
    if (choice_.per == "window") {
      if (!std::exchange(named, true)) names_.push_back(record.label);
      Row& row = rows_.emplace_back();
      row.begin = unit.interval.begin;
      row.end = unit.interval.end;
      row.record = names_.size() - 1;
      row.file = record.file_index;
      add_unit(unit, record, scores, row);
      continue;
    }
    Row& row = rows_[unit.feature];
    row.file = record.file_index;
    features_.call_sequence(unit.feature, record.label);
    add_unit(unit, record, scores, row);
    if (!unit.joined) of_file_.push_back(unit.feature);
  }
}

void ScoreTable::end_file() {
  const auto place = [this](Row& row) {
    const WindowBits::Place place = genome_.place(row.bits(), row.length);
    row.percentile = place.percentile;
    row.z_score = place.z_score;
  };
  if (choice_.per == "feature") {
    for (const std::size_t feature : of_file_) place(rows_[feature]);
    of_file_.clear();
  } else {
    for (Row& row : rows_) {
      place(row);
      write(names_[row.record], names_[row.record], '.', row);
    }
    rows_.clear();
    names_.clear();
    file_->flush();
  }
  genome_.clear();
}

std::vector<OutputFile*> ScoreTable::finish() {
  end_file();
  if (choice_.per == "feature") {
    features_.require_all();
    for (std::size_t i = 0; i < rows_.size(); ++i) {
      const Feature& feature = features_.features()[i];
      rows_[i].begin = feature.begin;
      rows_[i].end = feature.end;
      name_file(choice_.features,
                [&] { write(feature.name, feature.seqid, feature.strand, rows_[i]); });
    }
  }
  return {file_.get()};
}

void ScoreTable::write(const std::string& name, const std::string& sequence, char strand,
                       const Row& row) {
  check_line_name(name);
  line_.assign(name);
  line_ += '\t';
  line_ += sequence;
  for (const std::int64_t position : {row.begin, row.end}) {
    line_ += '\t';
    append_integer(line_, position);
  }
  line_ += '\t';
  line_ += strand;
  for (const std::int64_t count : {row.length, row.length - row.scored}) {
    line_ += '\t';
    append_integer(line_, count);
  }
  append_number(static_cast<double>(row.gc) / static_cast<double>(row.scored));
  append_number(row.bits());
  append_number(row.percentile);
  append_number(row.z_score);
  line_ += '\t';
  line_ += cell_text(options_.files[static_cast<std::size_t>(row.file)]);
  line_ += '\n';
  file_->write(line_);
}

void ScoreTable::append_number(double value) {
  line_ += '\t';
  if (std::isnan(value)) {
    line_ += "NA";
  } else {
    append_fixed(line_, value, options_.digits);
  }
}

std::uint64_t ScoreTable::memory(const InputRecord& record) const {
  const auto length = static_cast<std::int64_t>(record.tokens.size());
  std::uint64_t bytes = WindowBits::memory(length);
  // Regions may be many and overlap; they are listed before, and their windows taken to be as those
  // of the record.
  if (choice_.per == "window") {
    const std::int64_t windows = (length + choice_.step - 1) / choice_.step;
    bytes += static_cast<std::uint64_t>(windows) * (sizeof(Row) + sizeof(Unit)) +
             record.label.size() + sizeof(std::string);
  }
  return bytes;
}

}  // namespace m5
