// Every file m5 writes: it appears whole or not at all, and no failed write goes unnoticed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/temporaries.hpp"

namespace m5 {

// A regular file is written under a temporary name in the same directory and renamed by commit().
// Names that cannot be given (too long, no such directory, not writable) are found when it opens.
// "-" (and /dev/stdout) is standard output; an existing path that is no regular file (/dev/null, a
// FIFO) is written in place. Every member but the destructor throws Error(kIo) with path and
// reason. SIGPIPE is left alone, so that a closed pipe ends the process quietly.
class OutputFile {
 public:
  enum class Format { kPlain, kBgzf };

  explicit OutputFile(const std::string& path, Format format = Format::kPlain);
  ~OutputFile();  // without commit(): the temporary is removed
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  void write(const void* data, std::size_t size);
  void write(std::string_view text) { write(text.data(), text.size()); }
  // In place of write(): put up to kRoom bytes at room() and tell advance() where they end.
  static constexpr std::size_t kRoom = 2048;
  char* room();
  void advance(const char* end);
  // Hands what is buffered to the system now (BGZF: ends the block), for readers of a pipe.
  void flush();
  // True if write_at works: plain format into a regular file.
  bool seekable() const { return !target_.empty() && format_ == Format::kPlain; }
  // Overwrites bytes already written, such as a header whose counts are known at the end.
  void write_at(std::int64_t offset, const void* data, std::size_t size);
  // All bytes are with the system, for others to read under hidden_path(); the name comes with
  // commit(), which does this where it was not done. Nothing may be written afterwards.
  void finish();
  // commit_all of this one alone.
  void commit();

  const std::string& path() const { return path_; }  // as given
  // The hidden name, for a library that writes or reads the file by itself; empty: no regular file.
  const std::string& hidden_path() const { return temporary_.path(); }
  std::int64_t bytes() const { return bytes_; }  // given to write(), before compression

 private:
  friend void commit_all(std::span<OutputFile* const> files);

  void take_name();                // of a regular file
  void give_name_back() noexcept;  // undoes that; named_ stays if it cannot be
  void sync_directory();
  void write_out(const void* data, std::size_t size);
  void write_block(const void* data, std::size_t size);
  void flush_buffer();
  void flush_buffer(std::size_t size);
  void discard() noexcept;
  [[noreturn]] void fail(const char* action, int error);

  std::string path_, target_;  // target_: what the links of path_ lead to; empty: not renamed
  Format format_;
  Temporary temporary_, previous_;  // previous_: a second name of the file that is replaced
  int fd_ = -1;
  bool finished_ = false, named_ = false, replaces_ = false, standard_output_ = false;
  std::int64_t bytes_ = 0;
  const std::size_t limit_;         // bytes that go to the system together
  std::unique_ptr<char[]> buffer_;  // of limit_ + kRoom
  std::size_t used_ = 0;            // bytes in it that wait; fewer than limit_ between calls
  std::vector<char> block_;
};

// Flush, fsync, and a checked close of all, then the names of all, then fsync of their directories.
// Nothing may be written afterwards. Throws Error(kIo), with the names as they were before:
// what a file replaced is kept until the end. What went to a stream cannot be taken back, nor, on a
// file system without hard links, a replaced file; the message says which.
void commit_all(std::span<OutputFile* const> files);

// True for standard output, and for a path that is there and no regular file: written in place.
bool is_stream(const std::string& path);

// True for names that end in .gz, .bgz or .bgzf.
bool has_bgzf_suffix(const std::string& path);

}  // namespace m5
