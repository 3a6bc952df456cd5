#include "tools/embed_units.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "data/tokenizer.hpp"
#include "kernels/backend.hpp"
#include "m5/error.hpp"

namespace m5 {

namespace {

std::size_t sequence_of(const Unit& unit) {
  return static_cast<std::size_t>(unit.interval.sequence);
}

// The first row of every sequence of a batch.
std::vector<std::int64_t> first_rows(const InputBatch& batch) {
  std::vector<std::int64_t> first;
  std::int64_t rows = 0;
  for (const TokenView& view : batch.views) {
    first.push_back(rows);
    rows += view.length;
  }
  return first;
}

std::int64_t positions(const std::vector<Unit>& units) {
  std::int64_t count = 0;
  for (const Unit& unit : units) count += unit.interval.end - unit.interval.begin;
  return count;
}

}  // namespace

Embedder::Embedder(const EmbedUnits& choice, const std::vector<std::string>& files,
                   Session& session, RegionSelector& selector, FeatureTable& features,
                   std::uint64_t row_memory)
    : choice_(choice),
      files_(files),
      samples_(sample_names(files)),
      session_(session),
      selector_(selector),
      features_(features),
      run_memory_(session),
      row_memory_(row_memory),
      layers_(choice.layers.empty() ? std::vector<int>{session.config().layers}
                                    : std::vector<int>(choice.layers.begin(), choice.layers.end())),
      dim_(session.config().dim),
      row_bytes_(sizeof(float) * layers_.size() * static_cast<std::uint64_t>(dim_)) {}

std::vector<Unit> Embedder::units_of(const InputBatch& batch) {
  std::vector<Unit> units;
  for (std::size_t i = 0; i < batch.records.size(); ++i) {
    const InputRecord& record = batch.records[i];
    const auto sequence = static_cast<std::int64_t>(i);
    if (choice_.per == "feature") {
      features_.units(record.name, static_cast<std::int64_t>(record.tokens.size()), record.circular,
                      sequence, units);
      continue;
    }
    for (const Interval& interval : intervals_of(record)) {
      if (choice_.per == "window") {
        add_windows(choice_, sequence, interval, units);
      } else {
        units.emplace_back().interval = {sequence, interval.begin, interval.end};
      }
    }
  }
  return units;
}

std::vector<Interval> Embedder::intervals_of(const InputRecord& record) {
  const auto length = static_cast<std::int64_t>(record.tokens.size());
  if (selector_.empty()) return {{0, length}};
  if (!selector_.wants(record.name)) return {};
  const std::vector<Interval> intervals = selector_.select(record.name, length);
  // A row a base needs no second row for a base of two regions.
  return choice_.per == "base" ? merge_intervals(intervals) : intervals;
}

// Of the rows of a batch that stay until the end: what the sink keeps, and, since they are written
// in the order of their file, the values of features.
std::uint64_t Embedder::kept_memory(const std::vector<Unit>& units) const {
  std::uint64_t bytes = 0;
  for (const Unit& unit : units) {
    const std::int64_t rows = choice_.per == "base" ? unit.interval.end - unit.interval.begin : 1;
    bytes += static_cast<std::uint64_t>(rows) * row_memory_;
    if (choice_.per != "feature") continue;
    constexpr std::uint64_t kAllocation = 16;
    bytes += row_bytes_ + kAllocation;
    if (row_memory_ > 0) {
      bytes += 2 * (sizeof(std::string) + kAllocation) + features_.name(unit).size();
    }
  }
  return bytes;
}

std::uint64_t Embedder::memory(const InputBatch& batch, const std::vector<Unit>& units) {
  kept_ += kept_memory(units);
  const auto count = static_cast<std::int64_t>(units.size());
  const std::uint64_t listed =
      static_cast<std::uint64_t>(count) * (sizeof(Unit) + sizeof(PoolInterval)) +
      static_cast<std::uint64_t>(batch.rows) * sizeof(Token);
  std::uint64_t pooled = 0;
  if (choice_.per == "base") {
    const std::int64_t held = choice_.strand == "both" ? positions(units) : 0;
    pooled = row_bytes_ * static_cast<std::uint64_t>(std::min(batch.rows, rows_ahead()) + held);
  } else {
    pooled = static_cast<std::uint64_t>(passes(units)) * layers_.size() *
             Pooler::memory(batch.rows, count, dim_, pool());
  }
  const std::uint64_t before = written_;
  // Rows of bases have been written by then.
  written_ = listed + (choice_.per == "base" ? 0 : pooled);
  return run_memory_.with(batch, listed + pooled + before + kept_);
}

// Of the rows that --per base writes: a tile of the encoder for each worker.
std::int64_t Embedder::rows_ahead() const {
  return std::int64_t{kernels::kTileRows} * session_.threads();
}

bool Embedder::reads(const Unit& unit, bool reverse) const {
  if (choice_.strand == "forward") return !reverse;
  return choice_.strand == "both" || unit.strand == '.' || (unit.strand == '-') == reverse;
}

int Embedder::passes(const std::vector<Unit>& units) const {
  int count = 0;
  for (const bool reverse : {false, true}) {
    count += std::any_of(units.begin(), units.end(),
                         [&](const Unit& unit) { return reads(unit, reverse); });
  }
  return count;
}

void Embedder::hidden(InputBatch& batch, bool reverse, const LayerRows& rows,
                      const std::function<void()>& on_failure) {
  const auto turn = [&] {
    if (!reverse) return;
    for (InputRecord& record : batch.records) reverse_complement(record.tokens);
  };
  turn();
  session_.hidden(
      batch.views, layers_,
      [&](int layer, std::int64_t first, int n, const float* values) {
        check_finite(batch, reverse, first, n, values);
        const auto at = std::lower_bound(layers_.begin(), layers_.end(), layer);
        rows(static_cast<std::size_t>(at - layers_.begin()), first, n, values);
      },
      on_failure);
  turn();
}

Embedded Embedder::compute(InputBatch batch, std::vector<Unit> units, EmbedSink& sink,
                           const std::function<void()>& check) {
  Embedded result{std::move(batch), std::move(units), {}};
  if (choice_.per == "base") {
    if (!result.units.empty()) compute_bases(result, sink, check);
    return result;
  }
  const InputBatch& in = result.batch;
  for (const bool reverse : {false, true}) {
    std::vector<PoolInterval> intervals;
    for (const Unit& unit : result.units) {
      if (!reads(unit, reverse)) continue;
      intervals.push_back(reverse ? mirrored(unit.interval, in.views[sequence_of(unit)].length)
                                  : unit.interval);
    }
    if (intervals.empty()) continue;
    std::vector<Pooler>& poolers = result.poolers[reverse];
    poolers.reserve(layers_.size());
    for (std::size_t l = 0; l < layers_.size(); ++l) {
      poolers.emplace_back(in.views, intervals, dim_, pool());
    }
    hidden(result.batch, reverse,
           [&](std::size_t layer, std::int64_t first, int n, const float* values) {
             poolers[layer].add(first, n, values);
             check();
           });
  }
  return result;
}

// The rows of the forward strand are written as they come, those of the reverse strand are held
// until then.
void Embedder::compute_bases(Embedded& embedded, EmbedSink& sink,
                             const std::function<void()>& check) {
  InputBatch& in = embedded.batch;
  const std::vector<Unit>& units = embedded.units;
  std::vector<float> reverse;
  if (choice_.strand == "both") {
    const std::vector<std::int64_t> first_row = first_rows(in);
    std::vector<std::int64_t> place;  // of the first row of each unit
    std::int64_t rows = 0;
    for (const Unit& unit : units) {
      place.push_back(rows);
      rows += unit.interval.end - unit.interval.begin;
    }
    reverse.resize(static_cast<std::size_t>(rows * dim_));
    hidden(in, true, [&](std::size_t, std::int64_t first, int n, const float* values) {
      auto s = std::upper_bound(first_row.begin(), first_row.end(), first) - first_row.begin() - 1;
      for (std::int64_t row = first; row < first + n; ++row, values += dim_) {
        const auto of = [&] { return static_cast<std::size_t>(s); };
        while (row >= first_row[of()] + in.views[of()].length) ++s;
        const std::int64_t position = first_row[of()] + in.views[of()].length - 1 - row;
        const auto after = std::partition_point(units.begin(), units.end(), [&](const Unit& unit) {
          return unit.interval.sequence < s ||
                 (unit.interval.sequence == s && unit.interval.begin <= position);
        });
        if (after == units.begin()) continue;
        const PoolInterval& unit = (after - 1)->interval;
        if (unit.sequence != s || position >= unit.end) continue;
        const std::int64_t at =
            place[static_cast<std::size_t>(after - 1 - units.begin())] + position - unit.begin;
        std::copy_n(values, dim_, reverse.begin() + at * dim_);
      }
      check();
    });
  }
  RowOrder order(dim_, rows_ahead(), base_rows(in, units, reverse, sink));
  const auto row = [&](std::size_t, std::int64_t first, int n, const float* values) {
    order.add(first, n, values);
    check();
  };
  hidden(in, false, row, [&] { order.give_up(); });
}

void Embedder::write(Embedded& embedded, EmbedSink& sink) {
  std::size_t next[2] = {0, 0};  // of the intervals of each strand
  for (const Unit& unit : embedded.units) {
    if (choice_.per == "base") return;
    const InputRecord& record = embedded.batch.records[sequence_of(unit)];
    const bool by_file = choice_.per == "file";
    if (by_file ? open_ && row_.file != record.file_index : !unit.joined) write_row(sink);
    if (!open_) {
      open_ = true;
      feature_ = unit.feature;
      row_.file = record.file_index;
      if (by_file) {
        row_.name = samples_[static_cast<std::size_t>(row_.file)];
        row_.sequence = ".";
        row_.begin = row_.end = 0;
      } else {
        if (row_.name != record.label) row_.name = row_.sequence = record.label;
        row_.begin = unit.interval.begin;
        row_.end = unit.interval.end;
      }
    }
    if (by_file) row_.end += unit.interval.end;
    for (const bool reverse : {false, true}) {
      if (!reads(unit, reverse)) continue;
      std::vector<PoolSum>& sums = sums_[reverse];
      sums.resize(layers_.size());
      for (std::size_t l = 0; l < sums.size(); ++l) {
        embedded.poolers[reverse][l].add_to(next[reverse], sums[l]);
      }
      ++next[reverse];
    }
  }
  if (choice_.per != "file") write_row(sink);
}

void Embedder::finish(EmbedSink& sink) { write_row(sink); }

void Embedder::write_row(EmbedSink& sink) {
  if (!std::exchange(open_, false)) return;
  std::vector<float> values, other(row_bytes_ / sizeof(float));
  for (std::vector<PoolSum>& sums : sums_) {
    if (sums.empty()) continue;
    row_.bases = sums.front().bases;
    for (std::size_t l = 0; l < sums.size(); ++l) {
      Pooler::finish(pool(), sums[l], other.data() + l * static_cast<std::size_t>(dim_));
    }
    sums.clear();
    if (values.empty()) {
      values = other;
      continue;
    }
    for (std::size_t c = 0; c < values.size(); ++c) values[c] = 0.5f * (values[c] + other[c]);
  }
  if (choice_.per == "feature") return features_.keep(feature_, row_, values);
  name_file(files_[static_cast<std::size_t>(row_.file)], [&] { sink.add(row_, values.data()); });
}

void Embedder::check_finite(const InputBatch& batch, bool reverse, std::int64_t first_row, int n,
                            const float* values) const {
  const float* const end = values + static_cast<std::int64_t>(n) * dim_;
  const float* const bad = std::find_if(values, end, [](float v) { return !std::isfinite(v); });
  if (bad == end) return;
  std::int64_t position = first_row + (bad - values) / dim_;
  std::size_t record = 0;
  while (position >= batch.views[record].length) position -= batch.views[record++].length;
  if (reverse) position = batch.views[record].length - 1 - position;
  throw Error(ErrorKind::kNumeric, batch.records[record].file + ": record '" +
                                       batch.records[record].name + "': position " +
                                       std::to_string(position + 1) +
                                       ": the model gives a value that is not finite");
}

// Units are whole records or regions, ascending; a row for every position in them.
RowOrder::Sink Embedder::base_rows(const InputBatch& batch, const std::vector<Unit>& units,
                                   const std::vector<float>& reverse, EmbedSink& sink) const {
  std::vector<float> both(reverse.empty() ? 0 : static_cast<std::size_t>(dim_));
  return [&batch, &units, &sink, first_row = first_rows(batch), dim = dim_, next = std::size_t{0},
          row = EmbedRow(), other = reverse.data(),
          both = std::move(both)](std::int64_t first, int n, const float* values) mutable {
    for (int i = 0; i < n; ++i, values += dim) {
      while (next < units.size() &&
             first + i >= first_row[sequence_of(units[next])] + units[next].interval.end) {
        ++next;
      }
      if (next == units.size()) return;
      const std::size_t sequence = sequence_of(units[next]);
      const std::int64_t position = first + i - first_row[sequence];
      if (position < units[next].interval.begin) continue;
      const InputRecord& record = batch.records[sequence];
      if (row.name != record.label) row.name = row.sequence = record.label;
      row.file = record.file_index;
      row.begin = position;
      row.end = position + 1;
      row.bases = is_base(batch.views[sequence].tokens[position]) ? 1 : 0;
      for (std::size_t c = 0; c < both.size(); ++c) both[c] = 0.5f * (values[c] + *other++);
      name_file(record.file, [&] { sink.add(row, both.empty() ? values : both.data()); });
    }
  };
}

}  // namespace m5
