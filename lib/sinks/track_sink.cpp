#include "sinks/track_sink.hpp"

#include <algorithm>
#include <cmath>

#include "m5/error.hpp"
#include "sinks/number.hpp"

namespace m5 {

void TrackSink::write(const ScoredInterval& interval) {
  for (std::int64_t begin = interval.begin; begin < interval.end;) {
    const std::int64_t end =
        options_.bin > 0 ? std::min(interval.end - begin, options_.bin) + begin : begin + 1;
    add(begin, end, mean(interval, begin, end));
    begin = end;
  }
  end_run();
}

// The metric over the scored bases of [begin, end); NaN if there are none. Means of nats are taken
// before they become a perplexity, which is therefore a geometric mean.
double TrackSink::mean(const ScoredInterval& interval, std::int64_t begin, std::int64_t end) const {
  double sum = 0;
  std::int64_t scored = 0;
  for (std::int64_t i = begin; i < end; ++i) {
    const std::size_t at = interval.at(i);
    const float log_p = interval.scores.log_p[at];
    if (std::isnan(log_p)) continue;
    sum += options_.metric == Metric::kEntropy
               ? entropy_bits(interval.scores.log_probs.data() + at * kBases)
               : -static_cast<double>(log_p);
    ++scored;
  }
  if (scored == 0) return std::nan("");
  const double value = sum / static_cast<double>(scored);
  const double result =
      options_.metric == Metric::kEntropy ? value : metric_from_nll(options_.metric, value);
  if (!std::isfinite(result)) {
    throw Error(ErrorKind::kNumeric, "record '" + interval.name + "': position " +
                                         std::to_string(begin + 1) +
                                         ": the value has no finite number; try --metric nll");
  }
  return result;
}

void TrackSink::add(std::int64_t begin, std::int64_t end, double value) {
  if (std::isnan(value)) return end_run();
  char* const text = texts_[1 - run_];
  const std::string_view shown(text, write_fixed(text, value, options_.digits));
  if (begin == run_end_ && shown == run_text_) {
    run_end_ = end;
    return;
  }
  end_run();
  run_begin_ = begin;
  run_end_ = end;
  run_text_ = shown;
  run_ = 1 - run_;
}

void TrackSink::end_run() {
  if (run_end_ < 0) return;
  const std::int64_t end = run_end_;
  run_end_ = -1;
  put(run_begin_, end, run_text_);
}

}  // namespace m5
