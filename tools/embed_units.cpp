#include "tools/embed_units.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "kernels/backend.hpp"
#include "m5/error.hpp"

namespace m5 {

FeatureTable::FeatureTable(const EmbedUnits& choice) : path_(choice.features) {
  if (choice.features.empty()) return;
  FeatureFile file = read_features(choice.features, choice.feature_options);
  features_ = std::move(file.features);
  circular_ = std::move(file.circular);
  taken_.assign(features_.size(), 0);
  rows_.resize(features_.size());
  bases_.resize(features_.size());
  for (std::size_t i = 0; i < features_.size(); ++i) by_name_[features_[i].seqid].push_back(i);
}

void FeatureTable::units(const std::string& record, std::int64_t length, bool circular,
                         std::int64_t sequence, std::vector<Unit>& units) {
  const auto found = by_name_.find(record);
  if (found == by_name_.end()) return;
  for (const std::size_t i : found->second) {
    Feature& feature = features_[i];
    if (taken_[i] != 0) continue;
    taken_[i] = 1;
    const std::vector<Interval> parts = place_feature(feature, path_, length, circular);
    for (std::size_t p = 0; p < parts.size(); ++p) {
      // Whole times around the record change nothing.
      const std::int64_t before = parts[p].begin / length * length;
      units.push_back({{sequence, parts[p].begin - before, parts[p].end - before}, i, p > 0});
    }
    feature.begin = parts.front().begin;
    feature.end = parts.back().end;
  }
}

void FeatureTable::keep(const Unit& unit, std::int64_t bases, const std::vector<float>& values) {
  rows_[unit.feature] = values;
  bases_[unit.feature] = bases;
}

void FeatureTable::require_all() const {
  for (std::size_t i = 0; i < features_.size(); ++i) {
    if (taken_[i] != 0) continue;
    throw Error(ErrorKind::kInput, path_ + ": line " + std::to_string(features_[i].line) +
                                       ": no record '" + features_[i].seqid + "' in the input");
  }
}

void FeatureTable::write(EmbedSink& sink) const {
  require_all();
  for (std::size_t i = 0; i < features_.size(); ++i) {
    const Feature& feature = features_[i];
    name_file(path_, [&] {
      sink.add({feature.name, feature.seqid, feature.begin, feature.end, feature.strand, bases_[i]},
               rows_[i].data());
    });
  }
}

namespace {

std::size_t sequence_of(const Unit& unit) {
  return static_cast<std::size_t>(unit.interval.sequence);
}

}  // namespace

Embedder::Embedder(const EmbedUnits& choice, Session& session, RegionSelector& selector,
                   FeatureTable& features, std::uint64_t row_memory)
    : choice_(choice),
      session_(session),
      selector_(selector),
      features_(features),
      run_memory_(session),
      row_memory_(row_memory),
      layer_(choice.layer < 0 ? session.config().layers : choice.layer),
      dim_(session.config().dim) {}

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
      const bool windows = choice_.per == "window";
      const std::int64_t window = windows ? choice_.window : interval.end - interval.begin;
      const std::int64_t step = windows ? choice_.step : window;
      for (std::int64_t begin = interval.begin; begin < interval.end; begin += step) {
        const std::int64_t end = std::min(interval.end - begin, window) + begin;
        units.emplace_back().interval = {sequence, begin, end};
        if (end == interval.end) break;
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
    bytes += sizeof(float) * static_cast<std::uint64_t>(dim_) + kAllocation;
    if (row_memory_ > 0) {
      bytes += 2 * (sizeof(std::string) + kAllocation) + features_.name(unit).size();
    }
  }
  return bytes;
}

std::uint64_t Embedder::memory(const InputBatch& batch, const std::vector<Unit>& units) {
  kept_ += kept_memory(units);
  const auto count = static_cast<std::int64_t>(units.size());
  std::uint64_t pooled = static_cast<std::uint64_t>(count) * (sizeof(Unit) + sizeof(PoolInterval));
  if (choice_.per == "base") {
    pooled += sizeof(float) * static_cast<std::uint64_t>(dim_) *
              static_cast<std::uint64_t>(std::min(batch.rows, rows_ahead()));
  } else {
    pooled += Pooler::memory(batch.rows, count, dim_, pool());
  }
  const std::uint64_t before = written_;
  written_ = pooled + static_cast<std::uint64_t>(batch.rows) * sizeof(Token);
  return run_memory_.with(batch, pooled + before + kept_);
}

// Of the rows that --per base writes: a tile of the encoder for each worker.
std::int64_t Embedder::rows_ahead() const {
  return std::int64_t{kernels::kTileRows} * session_.threads();
}

Embedded Embedder::compute(InputBatch batch, std::vector<Unit> units, EmbedSink& sink,
                           const std::function<void()>& check) {
  Embedded result{std::move(batch), std::move(units), nullptr};
  if (result.units.empty()) return result;
  const InputBatch& in = result.batch;
  if (choice_.per == "base") {
    RowOrder order(dim_, rows_ahead(), base_rows(in, result.units, sink));
    session_.hidden(
        in.views, std::span(&layer_, 1),
        [&](int, std::int64_t first, int n, const float* values) {
          check_finite(in, first, n, values);
          order.add(first, n, values);
          check();
        },
        [&] { order.give_up(); });
    return result;
  }
  std::vector<PoolInterval> intervals;
  intervals.reserve(result.units.size());
  for (const Unit& unit : result.units) intervals.push_back(unit.interval);
  result.pooler = std::make_unique<Pooler>(in.views, intervals, dim_, pool());
  session_.hidden(in.views, layer_, [&](std::int64_t first, int n, const float* values) {
    check_finite(in, first, n, values);
    result.pooler->add(first, n, values);
    check();
  });
  return result;
}

void Embedder::write(Embedded& embedded, EmbedSink& sink) {
  if (!embedded.pooler) return;
  std::vector<float> values(static_cast<std::size_t>(dim_));
  EmbedRow row;
  for (std::size_t i = 0; i < embedded.units.size();) {
    const Unit& unit = embedded.units[i];
    PoolSum sum;
    do {
      embedded.pooler->add_to(i++, sum);
    } while (i < embedded.units.size() && embedded.units[i].joined);
    Pooler::finish(pool(), sum, values.data());
    row.bases = sum.bases;
    if (choice_.per == "feature") {
      features_.keep(unit, row.bases, values);
      continue;
    }
    const InputRecord& record = embedded.batch.records[sequence_of(unit)];
    if (row.name != record.name) row.name = row.sequence = record.name;
    row.begin = unit.interval.begin;
    row.end = unit.interval.end;
    name_file(record.file, [&] { sink.add(row, values.data()); });
  }
}

void Embedder::check_finite(const InputBatch& batch, std::int64_t first_row, int n,
                            const float* values) const {
  const float* const end = values + static_cast<std::int64_t>(n) * dim_;
  const float* const bad = std::find_if(values, end, [](float v) { return !std::isfinite(v); });
  if (bad == end) return;
  std::int64_t position = first_row + (bad - values) / dim_;
  std::size_t record = 0;
  while (position >= batch.views[record].length) position -= batch.views[record++].length;
  throw Error(ErrorKind::kNumeric, batch.records[record].file + ": record '" +
                                       batch.records[record].name + "': position " +
                                       std::to_string(position + 1) +
                                       ": the model gives a value that is not finite");
}

// Units are whole records or regions, ascending; a row for every position in them.
RowOrder::Sink Embedder::base_rows(const InputBatch& batch, const std::vector<Unit>& units,
                                   EmbedSink& sink) const {
  std::vector<std::int64_t> first_row;
  std::int64_t rows = 0;
  for (const TokenView& view : batch.views) {
    first_row.push_back(rows);
    rows += view.length;
  }
  return
      [&batch, &units, &sink, first_row = std::move(first_row), dim = dim_, next = std::size_t{0},
       row = EmbedRow()](std::int64_t first, int n, const float* values) mutable {
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
          if (row.name != record.name) row.name = row.sequence = record.name;
          row.begin = position;
          row.end = position + 1;
          row.bases = is_base(batch.views[sequence].tokens[position]) ? 1 : 0;
          name_file(record.file, [&] { sink.add(row, values); });
        }
      };
}

}  // namespace m5
