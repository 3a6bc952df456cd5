#include "nn/memories.hpp"

#include <algorithm>
#include <array>

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
  const std::size_t width = mirrored_.size() * kBases;
  std::array<std::uint32_t, kMostMemoryOrders * kBases> forward;
  auto place = places_.begin();
  for (const std::int64_t row : rows) {
    if (row < place->first_row || row >= place->first_row + place->length) {
      place = std::upper_bound(places_.begin(), places_.end(), row,
                               [](std::int64_t r, const Place& p) { return r < p.first_row; }) -
              1;
    }
    const GenomeMemory& memory = memories_[place->memory];
    const std::int64_t position = row - place->first_row;
    if (reverse) {
      memory.counts(place->sequence, place->length - 1 - position, forward.data());
      mirror_counts(mirrored_, forward.data(), counts);
    } else {
      memory.counts(place->sequence, position, counts);
    }
    counts += width;
  }
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
