// Table of embeddings: what a row is, then one column a component (eI), of several
// layers layer by layer (lL_eI).
#include <optional>
#include <set>

#include "base/output.hpp"
#include "m5/error.hpp"
#include "sinks/formats.hpp"
#include "sinks/half.hpp"
#include "sinks/number.hpp"
#include "sinks/tabix.hpp"

namespace m5 {

namespace {

class EmbedTsvSink : public EmbedSink {
 public:
  explicit EmbedTsvSink(const EmbedSinkOptions& options)
      : options_(options),
        file_(options.path, has_bgzf_suffix(options.path) ? OutputFile::Format::kBgzf
                                                          : OutputFile::Format::kPlain) {
    if (!options.index.empty()) index_.emplace(options.path, options.index);
    for (const std::string& line : options.header) file_.write(line + "\n");
    std::string names = kRowColumns;
    for (int i = 0; i < options.width(); ++i) {
      names += '\t';
      if (!options.layers.empty()) {
        names +=
            "l" + std::to_string(options.layers[static_cast<std::size_t>(i / options.dim)]) + "_";
      }
      names += "e" + std::to_string(i % options.dim);
    }
    file_.write(names + "\n");
  }

  void add(const EmbedRow& row, const float* values) override {
    check_line_name(row.name);
    if (index_) check_order(row);
    line_.clear();
    append_row_columns(line_, row, options_);
    for (int i = 0; i < options_.width(); ++i) {
      line_ += '\t';
      // Shortest text that reads back as the same number.
      append_shortest(line_,
                      options_.float16 ? float_from_half(to_float16(row, values[i])) : values[i]);
    }
    line_ += '\n';
    file_.write(line_);
  }

  std::vector<OutputFile*> finish() override {
    if (!index_) return {&file_};
    return {&file_, index_->write(file_, {2, 3, 4, static_cast<int>(options_.header.size()) + 1})};
  }

 private:
  void check_order(const EmbedRow& row) {
    const bool next = row.sequence != sequence_ || begin_ < 0;
    if (next ? !sequences_.insert(row.sequence).second : row.begin < begin_) {
      throw Error(ErrorKind::kInput,
                  "row '" + row.name + "' of '" + row.sequence + "' from " +
                      std::to_string(row.begin + 1) +
                      " on is not behind the row before it: sort what rows are made of, or leave "
                      "out --write-index");
    }
    sequence_ = row.sequence;
    begin_ = row.begin;
    index_->check_length(row.sequence, row.end);
  }

  EmbedSinkOptions options_;
  OutputFile file_;
  std::string line_;
  std::optional<TabixIndex> index_;
  // What check_order has seen.
  std::set<std::string> sequences_;
  std::string sequence_;
  std::int64_t begin_ = -1;
};

}  // namespace

std::unique_ptr<EmbedSink> make_embed_tsv_sink(const EmbedSinkOptions& options) {
  return std::make_unique<EmbedTsvSink>(options);
}

}  // namespace m5
