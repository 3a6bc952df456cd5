// Bytes and lines of a file: plain, gzip (any number of members) or BGZF, or stdin ("-"). A stream
// that is cut or damaged is an error, never a shorter file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

namespace m5 {

// Throws Error(kIo) if the file cannot be opened or read, Error(kInput) if it is truncated or
// corrupt.
class ByteSource {
 public:
  // allow_no_eof: a BGZF file without its end-of-file block is a warning, not an error.
  // stop: once it is asked for, read() throws, also while it waits for a pipe.
  explicit ByteSource(const std::string& path, bool allow_no_eof = false,
                      std::stop_token stop = {});
  ~ByteSource();
  ByteSource(const ByteSource&) = delete;
  ByteSource& operator=(const ByteSource&) = delete;

  // The next bytes, uncompressed; empty at the end. Valid until the next call.
  std::string_view read();
  const std::string& path() const { return path_; }

 private:
  struct Gzip;

  std::size_t read_some(char* to, std::size_t size);  // 0 at the end of the file
  bool fill();  // refills input_ when it is used up; false at the end of the file
  std::string_view read_plain();
  std::string_view read_gzip();
  void start_member();
  void finish_member();
  [[noreturn]] void damaged(const std::string& what);

  std::string path_;
  bool allow_no_eof_;
  std::stop_token stop_;
  int fd_ = -1;
  bool may_wait_ = false;            // a pipe, terminal or socket
  std::int64_t expected_size_ = -1;  // of a regular file when opened
  std::int64_t bytes_read_ = 0;
  bool at_end_ = false, detected_ = false;
  std::vector<char> input_;
  std::size_t begin_ = 0, end_ = 0;  // unread part of input_
  std::unique_ptr<Gzip> gzip_;       // null: plain
};

// Lines of a text file; LF, CR LF and CR end a line. For annotation files, not for sequences.
class LineReader {
 public:
  explicit LineReader(const std::string& path, bool allow_no_eof = false)
      : source_(path, allow_no_eof) {}
  // False at the end. The line has no terminator, and the first one no byte order mark. Throws
  // Error(kInput) on lines over 16 MiB and on a NUL byte.
  bool next(std::string& line);
  std::int64_t line_number() const { return line_number_; }  // of the line last returned, 1-based
  const std::string& path() const { return source_.path(); }

 private:
  void finish(std::string& line);

  ByteSource source_;
  std::string_view chunk_;
  bool after_cr_ = false;
  std::int64_t line_number_ = 0;
};

}  // namespace m5
