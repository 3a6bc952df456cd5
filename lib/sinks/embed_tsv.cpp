// Table of embeddings: what a row is, then one column a component (eI), of several
// layers layer by layer (lL_eI).
#include "base/output.hpp"
#include "m5/error.hpp"
#include "sinks/formats.hpp"
#include "sinks/half.hpp"
#include "sinks/number.hpp"

namespace m5 {

namespace {

class EmbedTsvSink : public EmbedSink {
 public:
  explicit EmbedTsvSink(const EmbedSinkOptions& options)
      : options_(options),
        file_(options.path, has_bgzf_suffix(options.path) ? OutputFile::Format::kBgzf
                                                          : OutputFile::Format::kPlain) {
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

  std::vector<OutputFile*> finish() override { return {&file_}; }

 private:
  EmbedSinkOptions options_;
  OutputFile file_;
  std::string line_;
};

}  // namespace

std::unique_ptr<EmbedSink> make_embed_tsv_sink(const EmbedSinkOptions& options) {
  return std::make_unique<EmbedTsvSink>(options);
}

}  // namespace m5
