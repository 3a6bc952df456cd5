#include "train/training_memory.hpp"

#include <algorithm>
#include <array>
#include <utility>

#include "base/random.hpp"

namespace m5 {
namespace {

constexpr std::uint64_t kPoolStream = 2;  // windows have 1 (windows.cpp)
// Counters of a window's draws, below those of windows.cpp.
constexpr std::uint64_t kDrawOwn = ~std::uint64_t{0} - 8, kDrawPool = kDrawOwn - 1;

}  // namespace

TrainingMemory::TrainingMemory(const GenomeStore& store, const TrainSettings& settings,
                               ParallelFor parallel)
    : store_(store),
      settings_(settings),
      parallel_(std::move(parallel)),
      mirrored_(mirrored_orders(settings.config.memory)) {}

void TrainingMemory::begin_round(const WindowId& id) {
  const std::int64_t round = (id.step - 1) / settings_.memory_round;
  if (round == round_) return;
  round_ = round;
  pool_.clear();
  memories_.clear();
  const std::uint64_t key =
      sub_seed(sub_seed(id.seed, kPoolStream), static_cast<std::uint64_t>(round));
  for (int i = 0; i < settings_.memory_records; ++i) {
    const auto position = static_cast<std::int64_t>(uniform_below(
        key, static_cast<std::uint64_t>(i), static_cast<std::uint64_t>(store_.total())));
    const std::int64_t record = store_.record_at(position);
    if (std::find(pool_.begin(), pool_.end(), record) == pool_.end()) pool_.push_back(record);
  }
  for (const std::int64_t record : pool_) {
    const GenomeRecord& r = store_.records[static_cast<std::size_t>(record)];
    const TokenView view{store_.begin_of(r), r.length, r.circular, 0};
    memories_.emplace_back(std::span(&view, 1), settings_.config.memory.orders, parallel_);
  }
}

Window TrainingMemory::draw(const WindowSampler& sampler, const WindowId& id,
                            std::int64_t segment_length) {
  begin_round(id);
  const std::uint64_t key = window_key(id);
  if (uniform(key, kDrawOwn) < settings_.memory_own_share) return sampler.draw(id, segment_length);
  const auto at = static_cast<std::size_t>(uniform_below(key, kDrawPool, pool_.size()));
  Window window = sampler.draw_from(pool_[at], id, segment_length);
  window.whole_memory = true;
  return window;
}

RowCounts TrainingMemory::counts(const Batch& batch) {
  const std::vector<TokenView> truth = batch.truth();
  const std::vector<Window>& windows = batch.windows();
  own_.clear();
  own_.resize(windows.size());
  places_.assign(windows.size(), {});
  std::int64_t row = 0;
  for (std::size_t i = 0; i < windows.size(); ++i) {
    Place& place = places_[i];
    place.first_row = row;
    place.window = windows[i];
    row += windows[i].length;
    place.memory = &own_[i];
    if (!windows[i].whole_memory) continue;
    const auto at = std::find(pool_.begin(), pool_.end(), windows[i].record) - pool_.begin();
    place.memory = &memories_[static_cast<std::size_t>(at)];
    place.record_length = store_.records[static_cast<std::size_t>(windows[i].record)].length;
  }
  parallel_(static_cast<std::int64_t>(windows.size()), [&](int, std::int64_t i) {
    const auto at = static_cast<std::size_t>(i);
    if (windows[at].whole_memory) return;
    own_[at] = GenomeMemory(std::span(&truth[at], 1), settings_.config.memory.orders, serial_for);
  });
  return [this](std::span<const std::int64_t> rows, std::uint32_t* counts) { count(rows, counts); };
}

void TrainingMemory::count(std::span<const std::int64_t> rows, std::uint32_t* counts) const {
  std::array<std::uint32_t, kMostMemoryOrders * kBases> forward;
  std::size_t at = 0;
  for (const std::int64_t row : rows) {
    while (row >= places_[at].first_row + places_[at].window.length) ++at;
    const Place& place = places_[at];
    const Window& window = place.window;
    const std::int64_t i = row - place.first_row;
    if (!window.whole_memory) {
      place.memory->counts(0, i, counts);  // of the window as it was read, either strand
    } else if (!window.reverse_complement) {
      place.memory->counts(0, (window.start + i) % place.record_length, counts);
    } else {
      const std::int64_t position = window.start + window.length - 1 - i;
      place.memory->counts(0, position % place.record_length, forward.data());
      mirror_counts(mirrored_, forward.data(), counts);
    }
    counts += mirrored_.size() * kBases;
  }
}

std::uint64_t TrainingMemory::memory_needed(const TrainSettings& settings, const GenomeStore& store,
                                            int workers) {
  const MemoryConfig& config = settings.config.memory;
  if (config.empty()) return 0;
  std::int64_t longest = 0, windows = 1, own = 0;
  for (const GenomeRecord& record : store.records) longest = std::max(longest, record.length);
  for (const Stage& stage : settings.curriculum) {
    const std::int64_t length = std::min(stage.segment_length, longest);
    windows = std::max(windows, stage.windows());
    own = std::max(own, length * stage.windows());
  }
  const auto each = [&](int with) {
    return GenomeMemory::memory_needed(longest, 1, config.orders, with);
  };
  // The records one after the other, each by all workers; then the windows.
  return static_cast<std::uint64_t>(settings.memory_records) * each(0) +
         std::max(each(workers) - each(0),
                  Memories::memory_needed(config, own, windows, windows, workers));
}

}  // namespace m5
