// What tracks of every format have in common: one value a base or bin.
#pragma once

#include <cstdint>
#include <string_view>

#include "sinks/number.hpp"
#include "sinks/score_sink.hpp"

namespace m5 {

class TrackSink : public ScoreSink {
 public:
  explicit TrackSink(const ScoreSinkOptions& options) : options_(options) {}
  void write(const ScoredInterval& interval) override;

 protected:
  // [begin, end) of the record of the interval that is being written has the value that `text`
  // prints. Positions without a score come in no run; neighbours whose printed values are equal
  // come as one.
  virtual void put(std::int64_t begin, std::int64_t end, std::string_view text) = 0;

 private:
  double mean(const ScoredInterval& interval, std::int64_t begin, std::int64_t end) const;
  void add(std::int64_t begin, std::int64_t end, double value);
  void end_run();

  const ScoreSinkOptions options_;
  char texts_[2][kNumberBytes];  // of the run that is open, and of the value that comes
  int run_ = 0;                  // which is that of the run
  std::string_view run_text_;
  std::int64_t run_begin_ = -1, run_end_ = -1;  // run_end_ -1: no run is open
};

}  // namespace m5
