// The genome memories that training windows are asked with.
//
// Half of the windows (own_share) have a memory of their own tokens only, as a short record has
// when it is scored; so the mixing learns what few counts are worth. The others have that of their
// whole record. Memories of whole records are large and take seconds to make: a few records (pool)
// serve for a round of steps, drawn in proportion to their length.
#pragma once

#include <cstdint>
#include <vector>

#include "data/genome_memory.hpp"
#include "data/windows.hpp"
#include "nn/memories.hpp"
#include "train/batch.hpp"
#include "train/settings.hpp"

namespace m5 {

class TrainingMemory {
 public:
  // All references must outlive this.
  TrainingMemory(const GenomeStore& store, const TrainSettings& settings, ParallelFor parallel);

  // The window of that id: of one of the pool's records, or as `sampler` draws it. Makes the
  // memories of the round of id.step where they are not there.
  Window draw(const WindowSampler& sampler, const WindowId& id, std::int64_t segment_length);

  // Counts for the rows of the batch; valid until the next call or draw.
  RowCounts counts(const Batch& batch);
  // Of a batch whose windows all have memories of their own.
  static std::uint64_t memory_needed(const TrainSettings& settings, const GenomeStore& store,
                                     int workers);

 private:
  struct Place {
    std::int64_t first_row = 0;
    Window window;
    const GenomeMemory* memory = nullptr;
    std::int64_t record_length = 0;
  };
  void begin_round(const WindowId& id);
  void count(std::span<const std::int64_t> rows, std::uint32_t* counts) const;

  const GenomeStore& store_;
  const TrainSettings& settings_;
  const ParallelFor parallel_;
  const std::vector<std::size_t> mirrored_;
  std::int64_t round_ = -1;
  std::vector<std::int64_t> pool_;      // records
  std::vector<GenomeMemory> memories_;  // of the pool
  std::vector<GenomeMemory> own_;       // of the batch's windows, empty where they have the pool's
  std::vector<Place> places_;
};

}  // namespace m5
