// m5 score --flank: regions, each within a window of its record instead of all of it.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "io/regions.hpp"
#include "tools/input.hpp"

namespace m5 {

// Batches of windows, each a context of its own: a region of a record with up to `flank` nt on
// either side, over the end of a circular record, too, and at most the record, which then stays as
// it is. Regions of one record that overlap or touch are one.
class WindowReader {
 public:
  // keep_whole: batches hold the records that their windows are of. The references must stay.
  WindowReader(BatchReader& reader, RegionSelector& selector, std::int64_t flank,
               const BatchLimits& limits, bool keep_whole)
      : reader_(reader),
        selector_(selector),
        flank_(flank),
        limits_(limits),
        keep_whole_(keep_whole) {}
  bool next(InputBatch& batch);  // false after the last one

 private:
  struct Place {
    RegionWindow window;
    std::int64_t nt;
    bool circular;
  };
  bool read();
  Place place(const InputRecord& record, const Interval& region) const;
  void add(const Place& place, InputBatch& batch) const;

  BatchReader& reader_;
  RegionSelector& selector_;
  const std::int64_t flank_;
  const BatchLimits limits_;
  const bool keep_whole_;
  std::shared_ptr<InputBatch> whole_;
  std::vector<Place> places_;  // in whole_
  std::size_t next_ = 0;       // of them
};

}  // namespace m5
