// NPZ: the arrays embeddings [rows][dim], names, sequences, start, end, strand, n_bases and file
// (index into files) of the rows, and files, readable with numpy.load(allow_pickle=False).
#include <algorithm>
#include <functional>
#include <utility>
#include <vector>

#include "base/output.hpp"
#include "base/text.hpp"
#include "m5/error.hpp"
#include "sinks/formats.hpp"
#include "sinks/npy.hpp"
#include "sinks/zip.hpp"

namespace m5 {

namespace {

class NpzSink : public EmbedSink {
 public:
  explicit NpzSink(const EmbedSinkOptions& options)
      : options_(options), file_(options.path), zip_(file_) {
    if (file_.seekable()) zip_.begin("embeddings.npy", header());
  }

  void add(const EmbedRow& row, const float* values) override {
    table_.add(row);
    longest_ = std::max({longest_, row.name.size(), row.sequence.size()});
    if (static_cast<double>(longest_) * 4 * static_cast<double>(table_.size()) > kMostText) {
      throw Error(ErrorKind::kInput,
                  "a name of " + std::to_string(longest_) + " bytes: npz gives every one of " +
                      std::to_string(table_.size()) +
                      " rows and more as much room; shorten the name, or write npy or tsv");
    }
    if (!file_.seekable()) return append_values(held_.tail(), options_, row, values);
    bytes_.clear();
    append_values(bytes_, options_, row, values);
    zip_.write(bytes_.data(), bytes_.size());
  }

  std::vector<OutputFile*> finish() override {
    if (file_.seekable()) {
      zip_.replace_head(header());
    } else {
      zip_.begin("embeddings.npy", header());  // the count comes first
      for (const std::string& block : held_.blocks) zip_.write(block.data(), block.size());
    }
    zip_.end();
    write_column("names.npy", &RowTable::name);
    write_column("sequences.npy", &RowTable::sequence);
    write_integers("start.npy", &RowTable::begin);
    write_integers("end.npy", &RowTable::end);
    write_strands();
    write_integers("n_bases.npy", &RowTable::bases);
    write_integers("file.npy", &RowTable::file);
    write_lines("files.npy", options_.files);
    write_provenance();
    zip_.finish();
    return {&file_};
  }

 private:
  std::string header() const {
    return npy_header(values_descr(options_), table_.size(), options_.dim);
  }

  // Fixed-width text, UCS-4, padded with zeros; a byte that is no UTF-8 stands for itself
  // (Latin-1). Widened a row at a time: the texts together may be far larger so.
  void write_texts(const std::string& member, std::int64_t rows,
                   const std::function<const std::string&(std::int64_t)>& text_of) {
    const std::string* last = nullptr;  // texts are often those of the row before
    const auto same = [&](const std::string& text) { return &text == std::exchange(last, &text); };
    std::size_t width = 1;
    for (std::int64_t i = 0; i < rows; ++i) {
      const std::string& text = text_of(i);
      if (same(text)) continue;
      std::size_t points = 0;
      for (std::size_t at = 0; at < text.size(); ++points) next_code_point(text, at);
      width = std::max(width, points);
    }
    zip_.begin(member, npy_header("<U" + std::to_string(width), rows, 0));
    std::vector<std::uint32_t> cell(width);
    last = nullptr;
    for (std::int64_t i = 0; i < rows; ++i) {
      const std::string& text = text_of(i);
      if (!same(text)) {
        std::size_t points = 0;
        for (std::size_t at = 0; at < text.size();)
          cell[points++] = next_code_point(text, at).value;
        std::fill(cell.begin() + static_cast<std::ptrdiff_t>(points), cell.end(), 0u);
      }
      zip_.write(cell.data(), cell.size() * sizeof(std::uint32_t));
    }
    zip_.end();
  }

  void write_column(const std::string& member,
                    const std::string& (RowTable::*column)(std::int64_t) const) {
    write_texts(member, table_.size(),
                [&](std::int64_t row) -> const std::string& { return (table_.*column)(row); });
  }

  void write_strands() {
    zip_.begin("strand.npy", npy_header("<U1", table_.size(), 0));
    for (std::int64_t i = 0; i < table_.size(); ++i) {
      const auto letter = static_cast<std::uint32_t>(static_cast<unsigned char>(table_.strand(i)));
      zip_.write(&letter, sizeof letter);
    }
    zip_.end();
  }

  void write_provenance() {
    if (!options_.header.empty()) write_lines("provenance.npy", options_.header);
  }

  void write_lines(const std::string& member, const std::vector<std::string>& lines) {
    write_texts(
        member, static_cast<std::int64_t>(lines.size()),
        [&](std::int64_t i) -> const std::string& { return lines[static_cast<std::size_t>(i)]; });
  }

  void write_integers(const std::string& member,
                      std::int64_t (RowTable::*column)(std::int64_t) const) {
    zip_.begin(member, npy_header("<i8", table_.size(), 0));
    for (std::int64_t i = 0; i < table_.size(); ++i) {
      const std::int64_t value = (table_.*column)(i);
      zip_.write(&value, sizeof value);
    }
    zip_.end();
  }

  static constexpr double kMostText = 1e11;  // bytes of an array of names, before compression

  EmbedSinkOptions options_;
  OutputFile file_;
  ZipWriter zip_;
  std::size_t longest_ = 0;  // name, bytes
  std::string bytes_;
  HeldBytes held_;  // to a stream
  RowTable table_;
};

}  // namespace

std::unique_ptr<EmbedSink> make_npz_sink(const EmbedSinkOptions& options) {
  return std::make_unique<NpzSink>(options);
}

}  // namespace m5
