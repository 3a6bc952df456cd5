// NPZ of scores: probabilities [rows][4] (A, C, G, T; float32) of every position, NaN where there
// is no score, bases [rows] (letters), and of the stretches that the rows are of, one after the
// other: names, start, end, and row, the first of theirs. An archive has one array after the other,
// so the letters wait in a temporary file.
#include <cmath>
#include <cstdio>
#include <limits>
#include <memory>

#include "base/output.hpp"
#include "m5/error.hpp"
#include "sinks/formats.hpp"
#include "sinks/npy.hpp"
#include "sinks/npz_arrays.hpp"
#include "sinks/zip.hpp"

namespace m5 {

namespace {

struct Stretch {
  std::string name;
  std::int64_t begin, end, row;
};

class ScoreNpzSink : public ScoreSink {
 public:
  explicit ScoreNpzSink(const ScoreSinkOptions& options)
      : header_(options.header), file_(options.path), letters_(options.path), zip_(file_) {
    zip_.begin("probabilities.npy", head());
  }

  void write(const ScoredInterval& interval) override {
    longest_ = std::max(longest_, interval.name.size());
    stretches_.push_back({interval.name, interval.begin, interval.end, rows_});
    check_text_room(longest_, static_cast<std::int64_t>(stretches_.size()));
    for (std::int64_t i = interval.begin; i < interval.end;) {
      values_.clear();
      text_.clear();
      for (constexpr std::int64_t kRows = 8192; i < interval.end && size() < kRows; ++i)
        add(interval, i);
      rows_ += size();
      zip_.write(values_.data(), values_.size() * sizeof(float));
      letters_.write(text_);
    }
  }

  void flush() override {}  // nobody reads it before it is whole

  std::vector<OutputFile*> finish() override {
    zip_.replace_head(head());
    zip_.end();
    zip_.begin("bases.npy", npy_header("|S1", rows_, 0));
    copy_letters();
    zip_.end();
    const auto count = static_cast<std::int64_t>(stretches_.size());
    const auto at = [this](std::int64_t i) -> const Stretch& {
      return stretches_[static_cast<std::size_t>(i)];
    };
    write_texts(zip_, "names.npy", count,
                [&](std::int64_t i) -> const std::string& { return at(i).name; });
    write_integers(zip_, "start.npy", count, [&](std::int64_t i) { return at(i).begin; });
    write_integers(zip_, "end.npy", count, [&](std::int64_t i) { return at(i).end; });
    write_integers(zip_, "row.npy", count, [&](std::int64_t i) { return at(i).row; });
    if (!header_.empty()) write_texts(zip_, "provenance.npy", header_);
    zip_.finish();
    return {&file_};
  }

 private:
  std::string head() const { return npy_header("<f4", rows_, kBases); }
  std::int64_t size() const { return static_cast<std::int64_t>(text_.size()); }

  void add(const ScoredInterval& interval, std::int64_t position) {
    const std::size_t at = interval.at(position);
    text_ += "ACGTN"[interval.tokens[at]];
    const bool scored = !std::isnan(interval.scores.log_p[at]);
    for (std::size_t b = 0; b < kBases; ++b) {
      values_.push_back(scored ? std::exp(interval.scores.log_probs[at * kBases + b])
                               : std::numeric_limits<float>::quiet_NaN());
    }
  }

  void copy_letters() {
    struct Close {
      void operator()(std::FILE* file) const { std::fclose(file); }
    };
    letters_.flush();
    const std::unique_ptr<std::FILE, Close> in(std::fopen(letters_.hidden_path().c_str(), "rbe"));
    std::int64_t copied = 0;
    char block[65536];
    for (std::size_t got; in && (got = std::fread(block, 1, sizeof block, in.get())) > 0;) {
      zip_.write(block, got);
      copied += static_cast<std::int64_t>(got);
    }
    if (copied == rows_) return;
    throw Error(ErrorKind::kIo, file_.path() + ": what was written beside it cannot be read again");
  }

  const std::vector<std::string> header_;
  OutputFile file_, letters_;  // letters_: never gets a name
  ZipWriter zip_;
  std::vector<Stretch> stretches_;
  std::size_t longest_ = 0;  // name, bytes
  std::int64_t rows_ = 0;
  std::vector<float> values_;  // of some rows
  std::string text_;
};

}  // namespace

std::unique_ptr<ScoreSink> make_score_npz_sink(const ScoreSinkOptions& options) {
  if (is_stream(options.path)) {
    throw Error(ErrorKind::kUsage, "-O npz: is not written to a pipe or device; give -o FILE.npz");
  }
  if (has_bgzf_suffix(options.path)) {
    throw Error(ErrorKind::kUsage, "--output " + options.path + ": npz is not written with BGZF");
  }
  if (options.bin > 0) throw Error(ErrorKind::kUsage, "--bin has no meaning with -O npz");
  return std::make_unique<ScoreNpzSink>(options);
}

}  // namespace m5
