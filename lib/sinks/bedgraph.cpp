// bedGraph: chrom, start, end, value; 0-based, half open, tab separated.
#include <algorithm>
#include <optional>

#include "base/output.hpp"
#include "sinks/formats.hpp"
#include "sinks/number.hpp"
#include "sinks/tabix.hpp"
#include "sinks/track_sink.hpp"

namespace m5 {

namespace {

class BedgraphSink : public TrackSink {
 public:
  explicit BedgraphSink(const ScoreSinkOptions& options)
      : TrackSink(options),
        file_(options.path, has_bgzf_suffix(options.path) ? OutputFile::Format::kBgzf
                                                          : OutputFile::Format::kPlain),
        lines_(static_cast<int>(options.header.size()) + (options.track_line.empty() ? 0 : 1)) {
    if (!options.index.empty()) index_.emplace(options.path, options.index);
    if (!options.track_line.empty()) file_.write(options.track_line + "\n");
    for (const std::string& line : options.header) file_.write(line + "\n");
  }

  void write(const ScoredInterval& interval) override {
    check_line_name(interval.name, true);
    if (index_) index_->check_length(interval.name, interval.length);
    name_.assign(interval.name) += '\t';
    TrackSink::write(interval);
  }

  void flush() override { file_.flush(); }
  std::vector<OutputFile*> finish() override {
    if (!index_) return {&file_};
    return {&file_, index_->write(file_, {1, 2, 3, lines_})};
  }

 private:
  void put(std::int64_t begin, std::int64_t end, std::string_view text) override {
    static_assert(OutputFile::kRoom >= 3 * (kNumberBytes + 1));
    file_.write(name_);
    char* to = write_integer(file_.room(), begin);
    *to++ = '\t';
    to = write_integer(to, end);
    *to++ = '\t';
    to = std::copy(text.begin(), text.end(), to);
    *to++ = '\n';
    file_.advance(to);
  }

  OutputFile file_;
  const int lines_;  // before the first row
  std::optional<TabixIndex> index_;
  std::string name_;  // of the record, and a tab
};

}  // namespace

std::unique_ptr<ScoreSink> make_bedgraph_sink(const ScoreSinkOptions& options) {
  return std::make_unique<BedgraphSink>(options);
}

}  // namespace m5
