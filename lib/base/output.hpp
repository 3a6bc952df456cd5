// Every file m5 writes: it appears whole or not at all, and no failed write goes unnoticed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace m5 {

// A regular file is written under a temporary name in the same directory and renamed by commit().
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
  // Hands what is buffered to the system now (BGZF: ends the block), for readers of a pipe.
  void flush();
  // True if write_at works: plain format into a regular file.
  bool seekable() const { return !temporary_.empty() && format_ == Format::kPlain; }
  // Overwrites bytes already written, such as a header whose counts are known at the end.
  void write_at(std::int64_t offset, const void* data, std::size_t size);
  // Flush, fsync, close, rename, fsync of the directory. Nothing may be written afterwards.
  void commit();

  const std::string& path() const { return path_; }  // as given
  std::int64_t bytes() const { return bytes_; }      // given to write(), before compression

 private:
  void open_temporary();
  void write_out(const void* data, std::size_t size);
  void write_block(const void* data, std::size_t size);
  void flush_buffer();
  void discard() noexcept;
  [[noreturn]] void fail(const char* action, int error);

  std::string path_, target_, temporary_;
  Format format_;
  int fd_ = -1;
  int slot_ = -1;  // in the registry of temporaries
  bool committed_ = false, standard_output_ = false;
  std::int64_t bytes_ = 0;
  std::vector<char> buffer_, block_;
};

// True for names that end in .gz, .bgz or .bgzf.
bool has_bgzf_suffix(const std::string& path);

// Unlinks the temporaries of all open OutputFiles. Async-signal-safe: a handler may call it.
void remove_temporaries();
// Installs handlers for SIGINT, SIGTERM, SIGHUP and SIGPIPE that remove the temporaries and then
// let the signal end the process as usual (exit status 130, 143, ...). Call once, in main; a
// command that wants to end a signal's work in its own way installs its handler afterwards.
void remove_temporaries_on_signal();

}  // namespace m5
