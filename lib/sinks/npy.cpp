// NPY: one array [rows][dim], C order, with a table of what the rows are beside it.
#include "sinks/npy.hpp"

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/log.hpp"
#include "base/output.hpp"
#include "m5/error.hpp"
#include "sinks/formats.hpp"
#include "sinks/half.hpp"
#include "sinks/number.hpp"

namespace m5 {

static_assert(std::endian::native == std::endian::little, "arrays are written little-endian");

std::string npy_header(const std::string& descr, std::int64_t rows, std::int64_t columns) {
  std::string shape = "(" + std::to_string(rows) + ",";
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
                 static_cast<std::size_t>(options.dim) * sizeof(float));
    return;
  }
  for (int i = 0; i < options.dim; ++i) {
    const std::uint16_t half = half_from_float(values[i]);
    if ((half & 0x7c00u) == 0x7c00u) {
      throw Error(ErrorKind::kNumeric, "record '" + row.sequence + "': position " +
                                           std::to_string(row.begin + 1) +
                                           ": a value is too great for float16; use float32");
    }
    bytes.append(reinterpret_cast<const char*>(&half), sizeof half);
  }
}

std::vector<std::uint32_t> code_points(std::string_view text) {
  std::vector<std::uint32_t> points;
  for (std::size_t i = 0; i < text.size();) {
    const auto byte = static_cast<unsigned char>(text[i]);
    const int more = byte < 0x80                   ? 0
                     : byte >= 0xf0 && byte < 0xf5 ? 3
                     : byte >= 0xe0 && byte < 0xf0 ? 2
                     : byte >= 0xc2 && byte < 0xe0 ? 1
                                                   : -1;
    std::uint32_t point = byte;
    bool valid = more > 0 && i + static_cast<std::size_t>(more) < text.size();
    if (valid) {
      point = byte & (0x3fu >> more);
      for (int k = 1; k <= more; ++k) {
        const auto next = static_cast<unsigned char>(text[i + static_cast<std::size_t>(k)]);
        valid = valid && (next & 0xc0) == 0x80;
        point = (point << 6) | (next & 0x3fu);
      }
      constexpr std::uint32_t kLeast[] = {0, 0x80, 0x800, 0x10000};
      valid =
          valid && point >= kLeast[more] && point <= 0x10ffff && (point < 0xd800 || point > 0xdfff);
    }
    points.push_back(valid ? point : byte);
    i += valid ? static_cast<std::size_t>(more) + 1 : 1;
  }
  return points;
}

void RowTable::add(const EmbedRow& row) {
  names_.add(row.name);
  sequences_.add(row.sequence);
  begin_.push_back(row.begin);
  end_.push_back(row.end);
  strand_.push_back(row.strand);
  bases_.push_back(row.bases);
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
    table_->write("row\tname\tsequence\tstart\tend\tstrand\tn_bases\n");
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
    append_row_columns(line_, row);
    line_ += '\n';
    table_->write(line_);
    ++rows_;
  }

  void commit() override {
    if (!table_) {
      file_.write(header());
      for (const std::string& block : held_.blocks) file_.write(block);
      return file_.commit();
    }
    const std::string final_header = header();
    file_.write_at(0, final_header.data(), final_header.size());
    table_->flush();  // its bytes are with the system before the array gets its name
    file_.commit();
    table_->commit();
  }

 private:
  std::string header() const { return npy_header(values_descr(options_), rows_, options_.dim); }

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
