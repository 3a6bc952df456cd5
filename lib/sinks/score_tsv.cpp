// Table of the probabilities of all four bases at every scored position.
#include <cmath>
#include <optional>

#include "base/output.hpp"
#include "m5/error.hpp"
#include "sinks/formats.hpp"
#include "sinks/number.hpp"
#include "sinks/tabix.hpp"

namespace m5 {

namespace {

class ScoreTsvSink : public ScoreSink {
 public:
  explicit ScoreTsvSink(const ScoreSinkOptions& options)
      : digits_(options.digits),
        file_(options.path, has_bgzf_suffix(options.path) ? OutputFile::Format::kBgzf
                                                          : OutputFile::Format::kPlain),
        lines_(static_cast<int>(options.header.size()) + 1) {
    if (!options.index.empty()) index_.emplace(options.path, options.index);
    for (const std::string& line : options.header) file_.write(line + "\n");
    file_.write("chrom\tpos0\tbase\tpA\tpC\tpG\tpT\n");
  }

  void write(const ScoredInterval& interval) override {
    check_line_name(interval.name);
    if (index_) index_->check_length(interval.name, interval.length);
    const std::string name = interval.name + '\t';
    for (std::int64_t i = interval.begin; i < interval.end; ++i) {
      const std::size_t at = interval.at(i);
      if (std::isnan(interval.scores.log_p[at])) continue;
      static_assert(OutputFile::kRoom >= (1 + kBases) * (kNumberBytes + 1) + 2);
      file_.write(name);
      char* to = write_integer(file_.room(), i);
      *to++ = '\t';
      *to++ = "ACGT"[interval.tokens[at]];
      for (int b = 0; b < kBases; ++b) {
        *to++ = '\t';
        to = write_fixed(to,
                         std::exp(static_cast<double>(
                             interval.scores.log_probs[at * kBases + static_cast<std::size_t>(b)])),
                         digits_);
      }
      *to++ = '\n';
      file_.advance(to);
    }
  }

  void flush() override { file_.flush(); }
  std::vector<OutputFile*> finish() override {
    if (!index_) return {&file_};
    return {&file_, index_->write(file_, {1, 2, 0, lines_})};
  }

 private:
  int digits_;
  OutputFile file_;
  const int lines_;  // before the first row
  std::optional<TabixIndex> index_;
};

}  // namespace

std::unique_ptr<ScoreSink> make_score_tsv_sink(const ScoreSinkOptions& options) {
  if (options.bin > 0) throw Error(ErrorKind::kUsage, "--bin works with bedGraph output only");
  if (!options.track_line.empty()) {
    throw Error(ErrorKind::kUsage, "--track-line works with bedGraph output only");
  }
  return std::make_unique<ScoreTsvSink>(options);
}

}  // namespace m5
