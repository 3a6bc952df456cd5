// Pieces of the NPY format, version 1.0 (numpy.lib.format), shared by .npy and .npz.
#pragma once

#include <cstdint>
#include <deque>
#include <string>

#include "sinks/embed_sink.hpp"

namespace m5 {

inline constexpr std::size_t kNpyHeaderSize = 128;  // of every header written here

// kNpyHeaderSize bytes. descr: such as "<f4"; columns 0: a vector; layers above 0: [rows, layers,
// columns].
std::string npy_header(const std::string& descr, std::int64_t rows, std::int64_t columns,
                       std::int64_t layers = 0);
// Of the values of so many rows.
std::string values_header(const EmbedSinkOptions& options, std::int64_t rows);

// The bytes of a row of values in the dtype of `options`: appended to `bytes`.
// Throws Error(kNumeric) naming the row for a value float16 cannot hold.
void append_values(std::string& bytes, const EmbedSinkOptions& options, const EmbedRow& row,
                   const float* values);

// Bytes kept until the end, in blocks: one string would be copied, and doubled, as it grows.
struct HeldBytes {
  // Where the next bytes, at most a row, are to be appended.
  std::string& tail() {
    if (blocks.empty() || blocks.back().size() >= kBlock) {
      blocks.emplace_back().reserve(kBlock + kBlock / 8);
    }
    return blocks.back();
  }
  static constexpr std::size_t kBlock = std::size_t{1} << 20;
  std::deque<std::string> blocks;
};

// The rows seen so far, without their values.
class RowTable {
 public:
  void add(const EmbedRow& row);
  std::int64_t size() const { return static_cast<std::int64_t>(begin_.size()); }
  std::int64_t begin(std::int64_t row) const { return begin_[static_cast<std::size_t>(row)]; }
  std::int64_t end(std::int64_t row) const { return end_[static_cast<std::size_t>(row)]; }
  char strand(std::int64_t row) const { return strand_[static_cast<std::size_t>(row)]; }
  std::int64_t bases(std::int64_t row) const { return bases_[static_cast<std::size_t>(row)]; }
  std::int64_t file(std::int64_t row) const { return files_[static_cast<std::size_t>(row)]; }
  const std::string& name(std::int64_t row) const { return text(names_, row); }
  const std::string& sequence(std::int64_t row) const { return text(sequences_, row); }

 private:
  // Texts may be long and many: a name that is that of the row before, or also that of the
  // sequence, is kept once.
  std::uint32_t index_of(const std::string& text);
  const std::string& text(const std::deque<std::uint32_t>& column, std::int64_t row) const {
    return texts_[column[static_cast<std::size_t>(row)]];
  }
  std::deque<std::string> texts_;
  std::deque<std::uint32_t> names_, sequences_;  // of each row, into texts_
  std::uint32_t last_name_ = 0, last_sequence_ = 0;
  std::deque<std::int64_t> begin_, end_, bases_;  // deques grow without a copy
  std::deque<std::uint32_t> files_;
  std::deque<char> strand_;
};

}  // namespace m5
