// NPZ: the arrays embeddings [rows][dim], of several layers [rows][layers][dim] and layers, names,
// sequences, start, end, strand, n_bases and file (index into files) of the rows, and files,
// readable with numpy.load(allow_pickle=False).
#include <algorithm>
#include <vector>

#include "base/output.hpp"
#include "m5/error.hpp"
#include "sinks/formats.hpp"
#include "sinks/npy.hpp"
#include "sinks/npz_arrays.hpp"
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
    check_text_room(longest_, table_.size());
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
    write_column("start.npy", &RowTable::begin);
    write_column("end.npy", &RowTable::end);
    write_strands();
    write_column("n_bases.npy", &RowTable::bases);
    write_column("file.npy", &RowTable::file);
    write_texts(zip_, "files.npy", options_.files);
    if (!options_.layers.empty()) {
      write_integers(zip_, "layers.npy", static_cast<std::int64_t>(options_.layers.size()),
                     [&](std::int64_t i) { return options_.layers[static_cast<std::size_t>(i)]; });
    }
    if (!options_.header.empty()) write_texts(zip_, "provenance.npy", options_.header);
    zip_.finish();
    return {&file_};
  }

 private:
  std::string header() const { return values_header(options_, table_.size()); }

  void write_column(const std::string& member,
                    const std::string& (RowTable::*column)(std::int64_t) const) {
    write_texts(zip_, member, table_.size(),
                [&](std::int64_t row) -> const std::string& { return (table_.*column)(row); });
  }

  void write_column(const std::string& member,
                    std::int64_t (RowTable::*column)(std::int64_t) const) {
    write_integers(zip_, member, table_.size(),
                   [&](std::int64_t row) { return (table_.*column)(row); });
  }

  void write_strands() {
    zip_.begin("strand.npy", npy_header("<U1", table_.size(), 0));
    for (std::int64_t i = 0; i < table_.size(); ++i) {
      const auto letter = static_cast<std::uint32_t>(static_cast<unsigned char>(table_.strand(i)));
      zip_.write(&letter, sizeof letter);
    }
    zip_.end();
  }

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
