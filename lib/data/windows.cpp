#include "data/windows.hpp"

#include <algorithm>

#include "base/random.hpp"
#include "data/tokenizer.hpp"
#include "m5/error.hpp"

namespace m5 {
namespace {

// Counters of the draws of one window; positions count up from 0 (masking).
constexpr std::uint64_t kDrawRecord = ~std::uint64_t{0};
constexpr std::uint64_t kDrawStart = kDrawRecord - 1;
constexpr std::uint64_t kDrawStrand = kDrawRecord - 2;

// Uniform in [0, n), n >= 1.
std::int64_t draw_below(std::uint64_t key, std::uint64_t counter, std::int64_t n) {
  return static_cast<std::int64_t>(uniform_below(key, counter, static_cast<std::uint64_t>(n)));
}

Window whole(const GenomeStore& store, std::int64_t record) {
  const GenomeRecord& r = store.records[static_cast<std::size_t>(record)];
  return {.record = record, .start = 0, .length = r.length, .circular = r.circular};
}

}  // namespace

std::uint64_t window_key(const WindowId& id) {
  // Named, to keep windows apart from other uses of the same seed (initial weights).
  constexpr std::uint64_t kWindowStream = 1;
  const std::uint64_t run_key = sub_seed(id.seed, kWindowStream);
  const std::uint64_t step_key = sub_seed(run_key, static_cast<std::uint64_t>(id.step));
  return sub_seed(step_key, static_cast<std::uint64_t>(id.index));
}

WindowSampler::WindowSampler(const GenomeStore& store, double reverse_complement_probability)
    : store_(store), reverse_complement_(reverse_complement_probability) {
  if (!store.has_bases()) throw Error(ErrorKind::kInput, "no A, C, G or T to train on");
}

Window WindowSampler::draw(const WindowId& id, std::int64_t segment_length) const {
  const std::int64_t position = draw_below(window_key(id), kDrawRecord, store_.total());
  return draw_from(store_.record_at(position), id, segment_length);
}

Window WindowSampler::draw_from(std::int64_t record, const WindowId& id,
                                std::int64_t segment_length) const {
  const std::uint64_t key = window_key(id);
  const GenomeRecord& r = store_.records[static_cast<std::size_t>(record)];
  Window window;
  if (r.length <= segment_length) {
    window = whole(store_, record);
  } else {
    const std::int64_t starts = r.circular ? r.length : r.length - segment_length + 1;
    window = {
        .record = record, .start = draw_below(key, kDrawStart, starts), .length = segment_length};
  }
  window.reverse_complement = uniform(key, kDrawStrand) < reverse_complement_;
  return window;
}

std::vector<Window> validation_windows(const GenomeStore& store, std::int64_t segment_length,
                                       std::int64_t max_tokens) {
  const std::int64_t total = store.total();
  const std::int64_t count =
      std::max<std::int64_t>(1, std::min(max_tokens, total) / segment_length);
  std::vector<Window> windows;
  std::int64_t tokens = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t position = i * (total / count) + i * (total % count) / count;
    const std::int64_t record = store.record_at(position);
    const GenomeRecord& r = store.records[static_cast<std::size_t>(record)];
    Window window = whole(store, record);
    if (r.length > segment_length) {
      window.start = std::min(position - r.offset, r.length - segment_length);
      window.length = segment_length;
      window.circular = false;
    }
    if (!windows.empty() && window == windows.back()) continue;
    if (!windows.empty() && tokens + window.length > max_tokens) break;
    tokens += window.length;
    windows.push_back(window);
  }
  return windows;
}

void append_window(const GenomeStore& store, const Window& window, std::vector<Token>& tokens) {
  const GenomeRecord& r = store.records[static_cast<std::size_t>(window.record)];
  const Token* sequence = store.begin_of(r);
  const std::size_t first = tokens.size();
  // At most two pieces: up to the end of the record, and from its origin on.
  const std::int64_t before_end = std::min(window.length, r.length - window.start);
  tokens.insert(tokens.end(), sequence + window.start, sequence + window.start + before_end);
  tokens.insert(tokens.end(), sequence, sequence + (window.length - before_end));
  if (window.reverse_complement) reverse_complement(std::span(tokens).subspan(first));
}

}  // namespace m5
