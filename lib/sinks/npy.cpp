// NPY: one array [rows][dim], of several layers [rows][layers][dim], C order, with a table of what
// the rows are beside it.
#include "sinks/npy.hpp"

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/log.hpp"
#include "base/output.hpp"
#include "m5/error.hpp"
#include "sinks/formats.hpp"
#include "sinks/number.hpp"

namespace m5 {

static_assert(std::endian::native == std::endian::little, "arrays are written little-endian");

std::string values_header(const EmbedSinkOptions& options, std::int64_t rows) {
  return npy_header(options.float16 ? "<f2" : "<f4", rows, options.dim,
                    static_cast<std::int64_t>(options.layers.size()));
}

std::string npy_header(const std::string& descr, std::int64_t rows, std::int64_t columns,
                       std::int64_t layers) {
  std::string shape = "(" + std::to_string(rows) + ",";
  if (layers > 0) shape += " " + std::to_string(layers) + ",";
  if (columns > 0) shape += " " + std::to_string(columns);
  std::string header =
      "{'descr': '" + descr + "', 'fortran_order': False, 'shape': " + shape + "), }";
  constexpr std::size_t kPrefix = 10;  // magic, version, length
  if (header.size() + kPrefix + 1 > kNpyHeaderSize) {
    throw Error(ErrorKind::kInternal, "NPY header too long: " + header);
  }
  header.resize(kNpyHeaderSize - kPrefix - 1, ' ');
  header += '\n';
  std::string magic("\x93NUMPY\x01\x00", 8);
  magic += static_cast<char>(header.size() & 0xff);
  magic += static_cast<char>(header.size() >> 8);
  return magic + header;
}

void append_values(std::string& bytes, const EmbedSinkOptions& options, const EmbedRow& row,
                   const float* values) {
  if (!options.float16) {
    bytes.append(reinterpret_cast<const char*>(values),
                 static_cast<std::size_t>(options.width()) * sizeof(float));
    return;
  }
  for (int i = 0; i < options.width(); ++i) {
    const std::uint16_t half = to_float16(row, values[i]);
    bytes.append(reinterpret_cast<const char*>(&half), sizeof half);
  }
}

std::uint32_t RowTable::index_of(const std::string& text) {
  for (const std::uint32_t last : {last_name_, last_sequence_}) {
    if (last < texts_.size() && texts_[last] == text) return last;
  }
  texts_.push_back(text);
  return static_cast<std::uint32_t>(texts_.size() - 1);
}

void RowTable::add(const EmbedRow& row) {
  last_name_ = index_of(row.name);
  last_sequence_ = index_of(row.sequence);
  names_.push_back(last_name_);
  sequences_.push_back(last_sequence_);
  begin_.push_back(row.begin);
  end_.push_back(row.end);
  strand_.push_back(row.strand);
  bases_.push_back(row.bases);
  files_.push_back(static_cast<std::uint32_t>(row.file));
}

namespace {

class NpySink : public EmbedSink {
 public:
  explicit NpySink(const EmbedSinkOptions& options) : options_(options), file_(options.path) {
    if (!file_.seekable()) {
      log_warning("npy to a stream: the table of names and coordinates is not written");
      return;
    }
    table_ = std::make_unique<OutputFile>(options.path + ".tsv");
    file_.write(header());
    for (const std::string& line : options_.header) table_->write(line + "\n");
    table_->write(std::string("row\t") + kRowColumns + "\n");
  }

  void add(const EmbedRow& row, const float* values) override {
    if (!table_) {  // the count comes first: hold all
      append_values(held_.tail(), options_, row, values);
      ++rows_;
      return;
    }
    bytes_.clear();
    append_values(bytes_, options_, row, values);
    file_.write(bytes_);
    line_.clear();
    append_integer(line_, rows_);
    line_ += '\t';
    append_row_columns(line_, row, options_);
    line_ += '\n';
    table_->write(line_);
    ++rows_;
  }

  std::vector<OutputFile*> finish() override {
    if (!table_) {
      file_.write(header());
      for (const std::string& block : held_.blocks) file_.write(block);
      return {&file_};
    }
    const std::string final_header = header();
    file_.write_at(0, final_header.data(), final_header.size());
    return {&file_, table_.get()};
  }

 private:
  std::string header() const { return values_header(options_, rows_); }

  EmbedSinkOptions options_;
  OutputFile file_;
  std::unique_ptr<OutputFile> table_;  // none beside a stream
  std::string bytes_, line_;
  HeldBytes held_;
  std::int64_t rows_ = 0;
};

}  // namespace

std::unique_ptr<EmbedSink> make_npy_sink(const EmbedSinkOptions& options) {
  return std::make_unique<NpySink>(options);
}

}  // namespace m5
