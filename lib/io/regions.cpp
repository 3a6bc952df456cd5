#include "io/regions.hpp"

#include <algorithm>
#include <optional>
#include <string_view>

#include "base/log.hpp"
#include "base/memory.hpp"
#include "io/features.hpp"
#include "m5/error.hpp"

namespace m5 {
namespace {

[[noreturn]] void refuse(const std::string& text, const std::string& why) {
  throw Error(ErrorKind::kUsage, "region '" + text + "': " + why);
}

// Digits with thousands commas between them; nullopt for anything else.
std::optional<std::int64_t> coordinate(std::string_view text) {
  if (text.empty() || text.front() == ',' || text.back() == ',') return std::nullopt;
  std::int64_t value = 0;
  for (char c : text) {
    if (c == ',') continue;
    if (c < '0' || c > '9' || value > (Region::kToEnd - 9) / 10) return std::nullopt;
    value = value * 10 + (c - '0');
  }
  return value;
}

// FROM, FROM-, -TO or FROM-TO; nullopt if it is not of that form.
std::optional<Interval> interval(std::string_view range, const std::string& text) {
  const std::size_t dash = range.find('-');
  const std::string_view from = range.substr(0, dash);
  const std::string_view to = dash == std::string_view::npos ? "" : range.substr(dash + 1);
  if (from.empty() && to.empty()) return std::nullopt;
  std::int64_t first = 1, last = Region::kToEnd;
  if (!from.empty()) {
    const auto value = coordinate(from);
    if (!value) return std::nullopt;
    first = *value;
  }
  if (!to.empty()) {
    const auto value = coordinate(to);
    if (!value) return std::nullopt;
    last = *value;
  }
  if (first < 1 || last < 1) refuse(text, "positions count from 1");
  if (first > last) refuse(text, "begins after its end");
  return Interval{first - 1, last};
}

}  // namespace

Region parse_region(const std::string& text) {
  if (text.empty()) refuse(text, "empty");
  Region region;
  region.text = text;
  if (text[0] == '{') {
    const std::size_t close = text.find('}');
    if (close == std::string::npos) refuse(text, "no closing brace");
    const std::string name = text.substr(1, close - 1);
    if (name.empty()) refuse(text, "no name in the braces");
    const std::string rest = text.substr(close + 1);
    if (rest.empty()) {
      region.whole_name = name;
      return region;
    }
    const auto range =
        rest[0] == ':' ? interval(std::string_view(rest).substr(1), text) : std::nullopt;
    if (!range) refuse(text, "':FROM-TO' must follow the closing brace");
    region.name = name;
    region.interval = *range;
    return region;
  }
  region.whole_name = text;
  const std::size_t colon = text.rfind(':');
  if (colon == std::string::npos || colon == 0) return region;
  if (const auto range = interval(std::string_view(text).substr(colon + 1), text)) {
    region.name = text.substr(0, colon);
    region.interval = *range;
  }
  return region;
}

std::vector<Region> read_bed_regions(const std::string& path, bool allow_no_eof) {
  std::vector<Region> regions;
  std::vector<Feature> features = read_bed(path, allow_no_eof);
  require_more_memory(features.size() * (sizeof(Region) + heap_memory(path.size() + 40)), path);
  regions.reserve(features.size());
  for (Feature& feature : features) {
    Region region;
    region.text = feature.seqid + ":" + std::to_string(feature.begin + 1) + "-" +
                  std::to_string(feature.end) + " (" + path + " line " +
                  std::to_string(feature.line) + ")";
    region.name = std::move(feature.seqid);
    region.interval = {feature.begin, feature.end};
    regions.push_back(std::move(region));
  }
  return regions;
}

std::vector<Interval> merge_intervals(std::vector<Interval> intervals) {
  std::sort(intervals.begin(), intervals.end(),
            [](const Interval& a, const Interval& b) { return a.begin < b.begin; });
  std::vector<Interval> merged;
  for (const Interval& next : intervals) {
    if (!merged.empty() && next.begin <= merged.back().end) {
      merged.back().end = std::max(merged.back().end, next.end);
    } else {
      merged.push_back(next);
    }
  }
  return merged;
}

RegionSelector::RegionSelector(std::vector<Region> regions)
    : regions_(std::move(regions)),
      matched_whole_(regions_.size(), 0),
      matched_interval_(regions_.size(), 0) {
  for (std::size_t i = 0; i < regions_.size(); ++i) {
    if (!regions_[i].whole_name.empty()) by_name_[regions_[i].whole_name].push_back(i);
    if (!regions_[i].name.empty()) by_name_[regions_[i].name].push_back(i);
  }
}

bool RegionSelector::wants(const std::string& record_name) const {
  return by_name_.count(record_name) != 0;
}

std::vector<Interval> RegionSelector::select(const std::string& record_name, std::int64_t length) {
  std::vector<Interval> found;
  const auto here = by_name_.find(record_name);
  if (here == by_name_.end()) return found;
  for (std::size_t i : here->second) {
    const Region& region = regions_[i];
    if (region.whole_name == record_name) {
      matched_whole_[i] = 1;
      found.push_back({0, length});
      continue;
    }
    matched_interval_[i] = 1;
    if (region.interval.begin >= length) {
      throw Error(ErrorKind::kInput, "region '" + region.text + "': begins past the end of '" +
                                         record_name + "' (" + std::to_string(length) + " nt)");
    }
    if (region.interval.end != Region::kToEnd && region.interval.end > length) {
      log_warning("region '" + region.text + "' is cut at the end of '" + record_name + "' (" +
                  std::to_string(length) + " nt)");
    }
    found.push_back({region.interval.begin, std::min(region.interval.end, length)});
  }
  return found;
}

void RegionSelector::start_over() {
  std::fill(matched_whole_.begin(), matched_whole_.end(), 0);
  std::fill(matched_interval_.begin(), matched_interval_.end(), 0);
}

void RegionSelector::finish() const {
  for (std::size_t i = 0; i < regions_.size(); ++i) {
    const Region& region = regions_[i];
    if (!matched_whole_[i] && !matched_interval_[i]) {
      throw Error(ErrorKind::kInput, "region '" + region.text + "': no sequence named '" +
                                         (region.name.empty() ? region.whole_name : region.name) +
                                         "' in the input");
    }
    if (matched_whole_[i] && matched_interval_[i]) {
      throw Error(ErrorKind::kInput, "region '" + region.text + "' is ambiguous: write {" +
                                         region.whole_name + "} or {" + region.name + "}:FROM-TO");
    }
  }
}

}  // namespace m5
