#include "tools/region_windows.hpp"

#include <algorithm>
#include <utility>

namespace m5 {

WindowReader::Place WindowReader::place(const InputRecord& record, const Interval& region) const {
  const auto length = static_cast<std::int64_t>(record.tokens.size());
  const std::int64_t flank = std::min(flank_, length);
  std::int64_t begin = region.begin - flank, end = region.end + flank;
  if (!record.circular) {
    begin = std::max<std::int64_t>(begin, 0);
    end = std::min(end, length);
  }
  const bool whole = end - begin >= length;
  if (whole) {
    begin = 0;
    end = length;
  }
  return {{region, begin, length, 0}, end - begin, whole && record.circular};
}

bool WindowReader::read() {
  whole_ = std::make_shared<InputBatch>();
  places_.clear();
  next_ = 0;
  if (!reader_.next(*whole_)) return false;
  for (std::size_t i = 0; i < whole_->records.size(); ++i) {
    const InputRecord& record = whole_->records[i];
    const auto length = static_cast<std::int64_t>(record.tokens.size());
    for (const Interval& region : merge_intervals(selector_.select(record.name, length))) {
      places_.push_back(place(record, region));
      places_.back().window.record = i;
    }
  }
  return true;
}

void WindowReader::add(const Place& place, InputBatch& batch) const {
  const InputRecord& record = whole_->records[place.window.record];
  InputRecord& window = batch.records.emplace_back();
  window.file = record.file;
  window.file_index = record.file_index;
  window.name = record.name;
  window.label = record.label;
  window.circular = place.circular;
  window.tokens.reserve(static_cast<std::size_t>(place.nt));
  const std::int64_t length = place.window.length;
  for (std::int64_t at = place.window.first, left = place.nt; left > 0;) {
    const std::int64_t from = (at + length) % length, n = std::min(left, length - from);
    window.tokens.insert(window.tokens.end(), record.tokens.begin() + from,
                         record.tokens.begin() + from + n);
    at += n;
    left -= n;
  }
  TokenView& view = batch.views.emplace_back();
  view.tokens = window.tokens.data();
  view.length = place.nt;
  view.circular = place.circular;
  view.context = batch.contexts++;
  batch.rows += place.nt;
  batch.windows.push_back(place.window);
}

bool WindowReader::next(InputBatch& batch) {
  batch = InputBatch{};
  while (next_ == places_.size()) {
    if (!read()) return false;
  }
  while (next_ < places_.size()) {
    const Place& place = places_[next_];
    const bool full = batch.rows + place.nt > limits_.rows || batch.contexts >= limits_.contexts;
    if (full && !batch.records.empty()) break;
    add(place, batch);
    ++next_;
  }
  batch.names_memory = whole_->names_memory;
  if (keep_whole_) batch.whole = whole_;
  return true;
}

}  // namespace m5
