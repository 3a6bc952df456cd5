#include "nn/memories.hpp"

#include <algorithm>
#include <array>
#include <utility>

namespace m5 {

std::vector<std::size_t> mirrored_orders(const MemoryConfig& config) {
  std::vector<std::size_t> mirrored;
  for (const MemoryOrder& order : config.orders) {
    const auto at =
        std::find(config.orders.begin(), config.orders.end(), MemoryOrder{order.right, order.left});
    mirrored.push_back(static_cast<std::size_t>(at - config.orders.begin()));
  }
  return mirrored;
}

void mirror_counts(std::span<const std::size_t> mirrored, const std::uint32_t* counts,
                   std::uint32_t* out) {
  for (std::size_t o = 0; o < mirrored.size(); ++o) {
    std::reverse_copy(counts + mirrored[o] * kBases, counts + (mirrored[o] + 1) * kBases,
                      out + o * kBases);
  }
}

Memories::Memories(std::span<const TokenView> sequences, const MemoryConfig& config,
                   const ParallelFor& parallel)
    : mirrored_(mirrored_orders(config)) {
  std::vector<std::size_t> first;  // sequence of each context, and the end
  std::int64_t row = 0;
  for (std::size_t s = 0; s < sequences.size(); ++s) {
    if (s == 0 || sequences[s].context != sequences[s - 1].context) first.push_back(s);
    places_.push_back({row, sequences[s].length, first.size() - 1, s - first.back()});
    row += sequences[s].length;
  }
  first.push_back(sequences.size());
  const std::size_t contexts = first.size() - 1;
  memories_.resize(contexts);
  const auto make = [&](std::size_t c, const ParallelFor& with) {
    memories_[c] =
        GenomeMemory(sequences.subspan(first[c], first[c + 1] - first[c]), config.orders, with);
  };
  if (contexts == 1) {
    make(0, parallel);
    return;
  }
  // Many are short: side by side, each by one thread.
  parallel(static_cast<std::int64_t>(contexts),
           [&](int, std::int64_t c) { make(static_cast<std::size_t>(c), serial_for); });
}

RowCounts Memories::counts(bool reverse) const {
  return [this, reverse](std::span<const std::int64_t> rows, std::uint32_t* counts) {
    count(rows, reverse, counts);
  };
}

void Memories::count(std::span<const std::int64_t> rows, bool reverse,
                     std::uint32_t* counts) const {
  auto place = places_.begin();
  for (const std::int64_t row : rows) {
    if (row < place->first_row || row >= place->first_row + place->length) {
      place = std::upper_bound(places_.begin(), places_.end(), row,
                               [](std::int64_t r, const Place& p) { return r < p.first_row; }) -
              1;
    }
    const std::int64_t position = row - place->first_row;
    count(*place, reverse ? place->length - 1 - position : position, reverse, counts);
    counts += mirrored_.size() * kBases;
  }
}

// position: of the forward strand.
void Memories::count(const Place& place, std::int64_t position, bool reverse,
                     std::uint32_t* counts) const {
  const GenomeMemory& memory = memories_[place.memory];
  if (!reverse) {
    memory.counts(place.sequence, position, counts);
    return;
  }
  std::array<std::uint32_t, kMostMemoryOrders * kBases> forward;
  memory.counts(place.sequence, position, forward.data());
  mirror_counts(mirrored_, forward.data(), counts);
}

RowCounts Memories::counts(bool reverse, std::vector<Window> windows) const {
  std::vector<std::int64_t> end_row;  // of each window
  end_row.reserve(windows.size());
  for (const Window& window : windows) {
    end_row.push_back((end_row.empty() ? 0 : end_row.back()) + window.length);
  }
  return [this, reverse, windows = std::move(windows), end_row = std::move(end_row)](
             std::span<const std::int64_t> rows, std::uint32_t* counts) {
    for (const std::int64_t row : rows) {
      const auto w = static_cast<std::size_t>(
          std::upper_bound(end_row.begin(), end_row.end(), row) - end_row.begin());
      const Window& window = windows[w];
      const std::int64_t left = end_row[w] - 1 - row;  // rows of the window after this one
      const Place& place = places_[window.sequence];
      const std::int64_t position =
          (window.first + (reverse ? left : window.length - 1 - left)) % place.length;
      count(place, position < 0 ? position + place.length : position, reverse, counts);
      counts += mirrored_.size() * kBases;
    }
  };
}

std::uint64_t Memories::memory_needed(const MemoryConfig& config, std::int64_t rows,
                                      std::int64_t sequences, std::int64_t contexts, int workers) {
  if (config.empty() || contexts < 1) return 0;
  const auto each = [&](int with) {
    const auto share = [&](std::int64_t n) { return (n + contexts - 1) / contexts; };
    return GenomeMemory::memory_needed(share(rows), share(sequences), config.orders, with);
  };
  return static_cast<std::uint64_t>(contexts) * each(0) + each(workers) - each(0);
}

}  // namespace m5
