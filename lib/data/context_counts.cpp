#include "data/context_counts.hpp"

#include <algorithm>
#include <numeric>

#include "base/random.hpp"

namespace m5 {
namespace {

constexpr int kMostShardBits = 6;
constexpr std::int64_t kShardEntries = 1 << 19;  // a part's table stays near the cache

std::int64_t entries_of(ContextShape shape, std::int64_t windows) {
  return shape.symmetric() ? windows : 2 * windows;
}

bool is_dense(ContextShape shape, std::int64_t entries) {
  const int bits = 2 * (shape.window() - 1);
  return bits < 40 && (std::int64_t{1} << bits) <= entries;
}

int shard_bits_of(std::int64_t entries) {
  int bits = 0;
  while (bits < kMostShardBits && (entries >> bits) > kShardEntries) ++bits;
  return bits;
}

// A product spreads its factor over the high bits: enough to share contexts out, and one
// multiplication for each window that a part passes over.
std::uint64_t shard_of(std::uint64_t context, int bits) {
  return bits == 0 ? 0 : (context * 0x9e3779b97f4a7c15ULL) >> (64 - bits);
}

std::size_t slot_of(std::uint64_t context, std::size_t slots) {
  return static_cast<std::size_t>(((mix_bits(context) >> 32) * slots) >> 32);
}

std::size_t slots_for(std::size_t contexts) { return contexts + contexts / 2 + 1; }

// visit(forward, reverse): the words of each window of bases, read on either strand.
template <class Visit>
void for_each_window(const ContextShape& shape, std::span<const TokenView> sequences,
                     const Visit& visit) {
  const int window = shape.window();
  const std::uint64_t mask = shape.window_mask();
  const int top = 2 * (window - 1);
  for (const TokenView& sequence : sequences) {
    if (sequence.length < window) continue;
    std::uint64_t forward = 0, reverse = 0;
    std::int64_t run = 0;  // of bases
    const auto enter = [&](Token token) {
      const std::uint64_t base = token & 3u;
      run = is_base(token) ? run + 1 : 0;
      forward = ((forward << 2) | base) & mask;
      reverse = (reverse >> 2) | ((3 - base) << top);
      if (run >= window) visit(forward, reverse);
    };
    for (std::int64_t i = 0; i < sequence.length; ++i) enter(sequence.tokens[i]);
    if (!sequence.circular) continue;
    for (std::int64_t i = 0; i < window - 1; ++i) enter(sequence.tokens[i]);
  }
}

// visit(context, centre) for each entry of the table.
template <class Visit>
void for_each_entry(const ContextShape& shape, std::span<const TokenView> sequences,
                    const Visit& visit) {
  if (shape.symmetric()) {
    for_each_window(shape, sequences, [&](std::uint64_t forward, std::uint64_t reverse) {
      const std::uint64_t f = shape.context(forward), r = shape.context(reverse);
      if (f <= r) visit(f, shape.centre(forward));
      if (r <= f) visit(r, shape.centre(reverse));
    });
  } else {
    for_each_window(shape, sequences, [&](std::uint64_t forward, std::uint64_t reverse) {
      visit(shape.context(forward), shape.centre(forward));
      visit(shape.context(reverse), shape.centre(reverse));
    });
  }
}

}  // namespace

// A hash table while it is counted.
class ContextCounts::Growing {
 public:
  explicit Growing(std::int64_t contexts) : rows_(slots_for(static_cast<std::size_t>(contexts))) {}

  void add(std::uint64_t context, std::uint32_t centre) {
    Row& row = place(context);
    if (row.free()) {
      row.context = context;
      ++used_;
    }
    ++row.counts[centre];
    if (used_ * 4 > rows_.size() * 3) grow();
  }

  // Those that are seen twice or more.
  Rows result() const {
    Rows kept;
    for (const Row& row : rows_) {
      if (std::accumulate(row.counts.begin(), row.counts.end(), std::uint64_t{0}) >= 2) {
        kept.push_back(row);
      }
    }
    if (kept.empty()) return kept;
    Growing table(static_cast<std::int64_t>(kept.size()));
    for (const Row& row : kept) table.place(row.context) = row;
    return std::move(table.rows_);
  }

 private:
  Row& place(std::uint64_t context) {
    std::size_t at = slot_of(context, rows_.size());
    while (rows_[at].context != context && !rows_[at].free()) {
      if (++at == rows_.size()) at = 0;
    }
    return rows_[at];
  }
  void grow() {
    Rows old(rows_.size() * 2);
    old.swap(rows_);
    for (const Row& row : old) {
      if (!row.free()) place(row.context) = row;
    }
  }

  Rows rows_;
  std::size_t used_ = 0;
};

ContextCounts::ContextCounts(ContextShape shape, std::int64_t windows)
    : shape_(shape), entries_(entries_of(shape, windows)) {
  if (is_dense(shape, entries_)) {
    dense_.resize(std::size_t{kBases} << (2 * (shape.window() - 1)));
  } else {
    shard_bits_ = shard_bits_of(entries_);
    hashed_.resize(std::size_t{1} << shard_bits_);
  }
}

void ContextCounts::count(int part, std::span<const TokenView> sequences) {
  if (!dense_.empty()) {
    for_each_entry(shape_, sequences, [this](std::uint64_t context, std::uint32_t centre) {
      ++dense_[context * kBases + centre];
    });
    return;
  }
  const auto shard = static_cast<std::uint64_t>(part);
  Growing table(entries_ >> shard_bits_);
  for_each_entry(shape_, sequences, [&](std::uint64_t context, std::uint32_t centre) {
    if (shard_of(context, shard_bits_) == shard) table.add(context, centre);
  });
  hashed_[shard] = table.result();
}

const std::uint32_t* ContextCounts::find(std::uint64_t context) const {
  if (!dense_.empty()) return &dense_[context * kBases];
  const Rows& rows = hashed_[shard_of(context, shard_bits_)];
  if (rows.empty()) return nullptr;
  for (std::size_t at = slot_of(context, rows.size()); !rows[at].free();) {
    if (rows[at].context == context) return rows[at].counts.data();
    if (++at == rows.size()) at = 0;
  }
  return nullptr;
}

void ContextCounts::prefetch(std::uint64_t context) const {
  if (!dense_.empty()) {
    __builtin_prefetch(&dense_[context * kBases]);
    return;
  }
  const Rows& rows = hashed_[shard_of(context, shard_bits_)];
  if (!rows.empty()) __builtin_prefetch(&rows[slot_of(context, rows.size())]);
}

std::uint64_t ContextCounts::bytes() const {
  std::uint64_t bytes = dense_.size() * sizeof(dense_[0]);
  for (const Rows& rows : hashed_) bytes += rows.size() * sizeof(Row);
  return bytes;
}

std::uint64_t ContextCounts::most_bytes(ContextShape shape, std::int64_t windows) {
  const std::int64_t entries = entries_of(shape, windows);
  if (is_dense(shape, entries)) return sizeof(Counts) << (2 * (shape.window() - 1));
  return (slots_for(static_cast<std::size_t>(entries) / 2) + (1u << kMostShardBits)) * sizeof(Row);
}

std::uint64_t ContextCounts::most_work_bytes(ContextShape shape, std::int64_t windows) {
  const std::int64_t entries = entries_of(shape, windows);
  if (is_dense(shape, entries)) return 0;
  return slots_for(static_cast<std::size_t>(entries >> shard_bits_of(entries))) * sizeof(Row);
}

}  // namespace m5
