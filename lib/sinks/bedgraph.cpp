// bedGraph: chrom, start, end, value; 0-based, half open, tab separated. Positions without a score
// have no line; neighbours whose printed values are equal share one.
#include <algorithm>
#include <cmath>

#include "base/output.hpp"
#include "m5/error.hpp"
#include "sinks/formats.hpp"
#include "sinks/number.hpp"

namespace m5 {

namespace {

class BedgraphSink : public ScoreSink {
 public:
  explicit BedgraphSink(const ScoreSinkOptions& options)
      : options_(options),
        file_(options.path, has_bgzf_suffix(options.path) ? OutputFile::Format::kBgzf
                                                          : OutputFile::Format::kPlain) {
    if (!options.track_line.empty()) file_.write(options.track_line + "\n");
    for (const std::string& line : options.header) file_.write(line + "\n");
  }

  void write(const ScoredInterval& interval) override {
    check_line_name(interval.name, true);
    name_ = &interval.name;
    for (std::int64_t begin = interval.begin; begin < interval.end;) {
      const std::int64_t end =
          options_.bin > 0 ? std::min(interval.end - begin, options_.bin) + begin : begin + 1;
      add(begin, end, mean(interval, begin, end));
      begin = end;
    }
    end_run();
  }

  void flush() override { file_.flush(); }
  std::vector<OutputFile*> finish() override { return {&file_}; }

 private:
  // The metric over the scored bases of [begin, end); NaN if there are none. Means of nats are
  // taken before they become a perplexity, which is therefore a geometric mean.
  double mean(const ScoredInterval& interval, std::int64_t begin, std::int64_t end) const {
    double sum = 0;
    std::int64_t scored = 0;
    for (std::int64_t i = begin; i < end; ++i) {
      const auto at = static_cast<std::size_t>(i);
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

  void add(std::int64_t begin, std::int64_t end, double value) {
    if (std::isnan(value)) return end_run();
    text_.clear();
    append_fixed(text_, value, options_.digits);
    if (begin == run_end_ && text_ == run_text_) {
      run_end_ = end;
      return;
    }
    end_run();
    run_begin_ = begin;
    run_end_ = end;
    run_text_.swap(text_);
  }

  void end_run() {
    if (run_end_ < 0) return;
    line_.assign(*name_);
    line_ += '\t';
    append_integer(line_, run_begin_);
    line_ += '\t';
    append_integer(line_, run_end_);
    line_ += '\t';
    line_ += run_text_;
    line_ += '\n';
    file_.write(line_);
    run_end_ = -1;
  }

  ScoreSinkOptions options_;
  OutputFile file_;
  const std::string* name_ = nullptr;
  std::string text_, run_text_, line_;
  std::int64_t run_begin_ = -1, run_end_ = -1;  // run_end_ -1: no run is open
};

}  // namespace

std::unique_ptr<ScoreSink> make_bedgraph_sink(const ScoreSinkOptions& options) {
  return std::make_unique<BedgraphSink>(options);
}

}  // namespace m5
