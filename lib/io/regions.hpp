// Regions of sequences: NAME[:FROM[-TO]] as samtools reads them, and BED files.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <unordered_map>
#include <vector>

namespace m5 {

struct Interval {
  std::int64_t begin = 0, end = 0;  // 0-based, half open
  bool operator==(const Interval&) const = default;
};

// A region as asked for. Names may hold colons, so the text has up to two readings; which one holds
// is settled by the names of the records.
struct Region {
  static constexpr std::int64_t kToEnd = std::numeric_limits<std::int64_t>::max();

  std::string text;        // as written, for messages
  std::string whole_name;  // reading 1: all of it is a name; empty if that cannot be
  std::string name;        // reading 2: a name with an interval; empty if that cannot be
  Interval interval{0, kToEnd};
};

// 1-based inclusive coordinates, thousands commas allowed; NAME, NAME:FROM (to the end),
// NAME:FROM-, NAME:-TO, NAME:FROM-TO, {NAME}, {NAME}:FROM-TO. Throws Error(kUsage) if FROM > TO,
// FROM is 0, or braces do not match.
Region parse_region(const std::string& text);

// Columns 1-3 of a BED file (plain or gzip). Throws Error(kInput) with line number, Error(kIo).
std::vector<Region> read_bed_regions(const std::string& path, bool allow_no_eof = false);

// Sorted, overlapping and touching ones merged.
std::vector<Interval> merge_intervals(std::vector<Interval> intervals);

// Matches regions with records while these stream past.
class RegionSelector {
 public:
  explicit RegionSelector(std::vector<Region> regions);

  bool empty() const { return regions_.empty(); }
  // The intervals asked for in this record, in the order they were asked for, as many as there
  // were; ends beyond `length` are cut with a warning. Throws Error(kInput) if a region begins past
  // the end.
  std::vector<Interval> select(const std::string& record_name, std::int64_t length);
  // True if this record is asked for at all.
  bool wants(const std::string& record_name) const;
  // After the last record: throws Error(kInput) if a region named no record, or is ambiguous
  // because both of its readings did.
  void finish() const;
  // Forgets the records: they come once more.
  void start_over();

 private:
  std::vector<Region> regions_;
  std::unordered_map<std::string, std::vector<std::size_t>> by_name_;
  std::vector<char> matched_whole_, matched_interval_;
};

}  // namespace m5
