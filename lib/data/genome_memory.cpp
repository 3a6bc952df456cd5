#include "data/genome_memory.hpp"

#include <algorithm>
#include <array>
#include <limits>
#include <string>
#include <utility>

#include "m5/error.hpp"

namespace m5 {
namespace {

__extension__ using Wide = unsigned __int128;

ContextShape shape_of(const MemoryOrder& order) {
  if (order.left < 0 || order.right < 0 || order.left > 31 || order.right > 31 ||
      order.left + order.right < 1 || order.left + order.right > 31) {
    throw Error(ErrorKind::kUsage, "genome memory: no context of " + std::to_string(order.left) +
                                       " and " + std::to_string(order.right) + " neighbours");
  }
  return {std::max(order.left, order.right), std::min(order.left, order.right)};
}

std::vector<ContextShape> shapes_of(std::span<const MemoryOrder> orders) {
  std::vector<ContextShape> shapes;
  for (const MemoryOrder& order : orders) {
    const ContextShape shape = shape_of(order);
    if (std::find(shapes.begin(), shapes.end(), shape) == shapes.end()) shapes.push_back(shape);
  }
  return shapes;
}

// The bases around one, read on one strand: 2 bits a base, the first highest, the one itself in the
// middle of 2 reach + 1.
struct Surroundings {
  Wide bases = 0;
  std::uint64_t other = 0;  // a bit each, the same way round: no base
  int reach = 0;

  // Of the window whose centre is `offset` bases after the middle.
  bool whole(const ContextShape& shape, int offset) const {
    const std::uint64_t mask = ~std::uint64_t{0} >> (64 - shape.window());
    return ((other >> (reach - offset - shape.right)) & mask) == 0;
  }
  std::uint64_t word(const ContextShape& shape, int offset) const {
    return static_cast<std::uint64_t>(bases >> (2 * (reach - offset - shape.right))) &
           shape.window_mask();
  }
};

struct BothStrands {
  Surroundings forward, reverse;

  BothStrands(const TokenView& sequence, std::int64_t position, int reach) {
    forward.reach = reverse.reach = reach;
    const auto enter = [&](Token token) {
      const std::uint64_t base = token & 3u;
      const std::uint64_t none = !is_base(token);
      forward.bases = (forward.bases << 2) | base;
      forward.other = (forward.other << 1) | none;
      reverse.bases = (reverse.bases >> 2) | (Wide{3 - base} << (4 * reach));
      reverse.other = (reverse.other >> 1) | (none << (2 * reach));
    };
    const std::int64_t from = position - reach, to = position + reach;
    if (from >= 0 && to < sequence.length) {
      for (std::int64_t i = from; i <= to; ++i) enter(sequence.tokens[i]);
    } else if (sequence.circular) {
      std::int64_t at = ((from % sequence.length) + sequence.length) % sequence.length;
      for (std::int64_t i = from; i <= to; ++i) {
        enter(sequence.tokens[at]);
        if (++at == sequence.length) at = 0;
      }
    } else {
      for (std::int64_t i = from; i <= to; ++i) {
        enter(i < 0 || i >= sequence.length ? kTokenPad : sequence.tokens[i]);
      }
    }
  }
};

// Takes the windows of one reading off that contain the middle and have the context of `asked`. No
// window comes twice: on a circle there are as many positions as a window is long.
void leave_out(const Surroundings& reading, const ContextShape& shape, std::uint64_t asked,
               ContextCounts::Counts& counts) {
  const std::uint64_t mask = shape.context_mask();
  Wide bases = reading.bases >> (2 * (reading.reach - shape.left - shape.right));
  for (int offset = shape.left; offset >= -shape.right; --offset, bases >>= 2) {
    const auto word = static_cast<std::uint64_t>(bases);
    if (((word ^ asked) & mask) == 0 && reading.whole(shape, offset)) --counts[shape.centre(word)];
  }
}

}  // namespace

GenomeMemory::GenomeMemory(std::span<const TokenView> sequences,
                           std::span<const MemoryOrder> orders, const ParallelFor& parallel)
    : sequences_(sequences.begin(), sequences.end()) {
  if (orders.size() > std::size_t{kMostMemoryOrders}) {
    throw Error(ErrorKind::kUsage, "genome memory: " + std::to_string(orders.size()) +
                                       " orders are more than " +
                                       std::to_string(kMostMemoryOrders));
  }
  std::int64_t rows = 0;
  for (const TokenView& sequence : sequences) rows += sequence.length;
  if (rows > std::numeric_limits<std::int32_t>::max()) {
    throw Error(ErrorKind::kInput, "a genome memory counts at most 2,147,483,647 nt; these are " +
                                       std::to_string(rows));
  }
  const std::vector<ContextShape> shapes = shapes_of(orders);
  for (const MemoryOrder& order : orders) {
    const auto table = std::find(shapes.begin(), shapes.end(), shape_of(order)) - shapes.begin();
    orders_.push_back({static_cast<std::size_t>(table), order.left < order.right});
    reach_ = std::max(reach_, order.left + order.right);
  }
  std::vector<std::pair<std::size_t, int>> parts;
  tables_.reserve(shapes.size());
  for (const ContextShape& shape : shapes) tables_.emplace_back(shape, rows);
  for (std::size_t t = tables_.size(); t-- > 0;) {  // long contexts take longest
    for (int part = 0; part < tables_[t].parts(); ++part) parts.emplace_back(t, part);
  }
  parallel(static_cast<std::int64_t>(parts.size()), [&](int, std::int64_t task) {
    const auto& [table, part] = parts[static_cast<std::size_t>(task)];
    tables_[table].count(part, sequences_);
  });
}

void GenomeMemory::counts(std::size_t sequence, std::int64_t position, std::uint32_t* out) const {
  std::fill_n(out, orders_.size() * kBases, 0u);
  const TokenView& view = sequences_[sequence];
  if (!is_base(view.tokens[position])) return;
  const BothStrands around(view, position, reach_);

  struct Asked {
    std::uint64_t word, context;
    bool reverse, exists;  // of the readings, the one to look up
  };
  std::array<Asked, kMostMemoryOrders> asked;
  for (std::size_t o = 0; o < orders_.size(); ++o) {
    const ContextCounts& table = tables_[orders_[o].table];
    const ContextShape& shape = table.shape();
    Asked& a = asked[o];
    a.reverse = orders_[o].mirrored;
    const Surroundings& reading = a.reverse ? around.reverse : around.forward;
    a.exists = shape.window() <= view.length && reading.whole(shape, 0);
    if (!a.exists) continue;
    a.word = reading.word(shape, 0);
    a.context = shape.context(a.word);
    if (shape.symmetric()) {
      const std::uint64_t word = around.reverse.word(shape, 0), context = shape.context(word);
      a.reverse = context < a.context;
      if (a.reverse) {
        a.word = word;
        a.context = context;
      }
    }
    table.prefetch(a.context);
  }
  for (std::size_t o = 0; o < orders_.size(); ++o, out += kBases) {
    const Asked& a = asked[o];
    if (!a.exists) continue;
    const ContextCounts& table = tables_[orders_[o].table];
    const std::uint32_t* found = table.find(a.context);
    if (found == nullptr) continue;
    ContextCounts::Counts counts{found[0], found[1], found[2], found[3]};
    leave_out(around.forward, table.shape(), a.word, counts);
    leave_out(around.reverse, table.shape(), a.word, counts);
    if (a.reverse) std::reverse(counts.begin(), counts.end());
    std::copy(counts.begin(), counts.end(), out);
  }
}

std::uint64_t GenomeMemory::bytes() const {
  std::uint64_t bytes = 0;
  for (const ContextCounts& table : tables_) bytes += table.bytes();
  return bytes;
}

std::uint64_t GenomeMemory::memory_needed(std::int64_t rows, std::int64_t sequences,
                                          std::span<const MemoryOrder> orders, int workers) {
  std::uint64_t bytes = static_cast<std::uint64_t>(sequences) * sizeof(TokenView), work = 0;
  for (const ContextShape& shape : shapes_of(orders)) {
    bytes += sizeof(ContextCounts) + ContextCounts::most_bytes(shape, rows);
    work = std::max(work, ContextCounts::most_work_bytes(shape, rows));
  }
  return bytes + work * static_cast<std::uint64_t>(workers);
}

}  // namespace m5
