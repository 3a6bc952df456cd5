#include "base/output.hpp"

#include <fcntl.h>
#include <htslib/bgzf.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/system.hpp"
#include "m5/error.hpp"

namespace m5 {
namespace {

constexpr std::size_t kBufferBytes = std::size_t{1} << 18;
constexpr std::size_t kBgzfInput = 0xff00;   // bytes of text in a BGZF block, as htslib cuts them
constexpr std::size_t kBgzfBlock = 0x10000;  // greatest size of a compressed block
// The empty block that ends every BGZF file (SAM specification, 4.1.2).
constexpr unsigned char kBgzfEnd[28] = {0x1f, 0x8b, 0x08, 0x04, 0, 0, 0,    0, 0,    0xff,
                                        0x06, 0,    0x42, 0x43, 2, 0, 0x1b, 0, 0x03, 0,
                                        0,    0,    0,    0,    0, 0, 0,    0};

bool ends_with(const std::string& text, std::string_view suffix) {
  return text.size() >= suffix.size() &&
         std::string_view(text).substr(text.size() - suffix.size()) == suffix;
}

std::string directory_of(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

}  // namespace

bool is_stream(const std::string& path) {
  struct stat status {};
  return path == "-" || path == "/dev/stdout" ||
         (stat(path.c_str(), &status) == 0 && !S_ISREG(status.st_mode));
}

bool has_bgzf_suffix(const std::string& path) {
  return ends_with(path, ".gz") || ends_with(path, ".bgz") || ends_with(path, ".bgzf");
}

OutputFile::OutputFile(const std::string& path, Format format)
    : path_(path),
      format_(format),
      limit_(format == Format::kBgzf ? kBgzfInput : kBufferBytes),
      buffer_(std::make_unique_for_overwrite<char[]>(limit_ + kRoom)) {
  if (format_ == Format::kBgzf) block_.resize(kBgzfBlock);
  if (path_ == "-" || path_ == "/dev/stdout") {
    standard_output_ = true;
    fd_ = STDOUT_FILENO;
    return;
  }
  if (path_.empty()) fail("cannot create", ENOENT);
  struct stat status {};
  replaces_ = stat(path_.c_str(), &status) == 0;
  if (!replaces_ && errno != ENOENT) fail("cannot create", errno);  // such as a name too long
  if (replaces_ && S_ISDIR(status.st_mode)) fail("cannot write", EISDIR);
  if (replaces_ && !S_ISREG(status.st_mode)) {
    fd_ = open(path_.c_str(), O_WRONLY | O_CLOEXEC);
    if (fd_ < 0) fail("cannot open for writing", errno);
    return;
  }
  // Renaming over it would succeed in spite of the file's own permissions.
  if (replaces_ && access(path_.c_str(), W_OK) != 0) fail("cannot write", errno);
  target_ = follow_links(path_);  // a symbolic link stays one: the file it names is replaced
  if (target_.empty()) fail("cannot create", ELOOP);
  remove_dead_temporaries(directory_of(target_));
  if (const int error = temporary_.create(directory_of(target_))) fail("cannot create", error);
  fd_ = temporary_.fd();
  if (replaces_ && fchmod(fd_, status.st_mode & 07777) != 0) {
    // Some file systems have no permissions to keep.
  }
}

OutputFile::~OutputFile() { discard(); }

// A file that has its name keeps it.
void OutputFile::discard() noexcept {
  if (fd_ >= 0 && !standard_output_ && target_.empty()) close(fd_);
  fd_ = -1;
  temporary_.discard();
  previous_.discard();
}

void OutputFile::fail(const char* action, int error) {
  discard();  // before the message, for which there may be no memory
  const std::string name = standard_output_ ? "standard output" : path_;
  throw Error(ErrorKind::kIo, name + ": " + action + ": " + std::strerror(error));
}

char* OutputFile::room() {
  if (finished_ || fd_ < 0) {
    throw Error(ErrorKind::kInternal, path_ + ": written to after it was closed");
  }
  return buffer_.get() + used_;
}

void OutputFile::advance(const char* end) {
  const auto size = static_cast<std::size_t>(end - (buffer_.get() + used_));
  bytes_ += static_cast<std::int64_t>(size);
  used_ += size;
  if (used_ >= limit_) flush_buffer(limit_);
}

void OutputFile::write(const void* data, std::size_t size) {
  const char* from = static_cast<const char*>(data);
  if (format_ == Format::kPlain && size >= limit_) {
    room();
    flush_buffer();
    bytes_ += static_cast<std::int64_t>(size);
    return write_out(from, size);
  }
  do {
    const std::size_t n = std::min(size, limit_ - used_);
    advance(std::copy(from, from + n, room()));
    from += n;
    size -= n;
  } while (size > 0);
}

void OutputFile::flush() {
  if (fd_ >= 0 && !finished_) flush_buffer();
}

void OutputFile::flush_buffer() {
  if (used_ > 0) flush_buffer(used_);
}

// The first `size` bytes; those behind them come first then.
void OutputFile::flush_buffer(std::size_t size) {
  if (format_ == Format::kBgzf) {
    write_block(buffer_.get(), size);
  } else {
    write_out(buffer_.get(), size);
  }
  std::copy(buffer_.get() + size, buffer_.get() + used_, buffer_.get());
  used_ -= size;
}

void OutputFile::write_block(const void* data, std::size_t size) {
  std::size_t compressed = block_.size();
  if (bgzf_compress(block_.data(), &compressed, data, size, -1) != 0) {
    discard();
    // Blocks of this size always fit: the compressor could not be made.
    throw Error(ErrorKind::kResource, path_ + ": not enough memory to compress");
  }
  write_out(block_.data(), compressed);
}

void OutputFile::write_out(const void* data, std::size_t size) {
  const char* from = static_cast<const char*>(data);
  while (size > 0) {
    const ssize_t n = ::write(fd_, from, std::min<std::size_t>(size, std::size_t{1} << 30));
    if (n < 0) {
      if (errno == EINTR) continue;
      fail("write failed", errno);
    }
    if (n == 0) fail("write failed", EIO);
    from += n;
    size -= static_cast<std::size_t>(n);
  }
}

void OutputFile::write_at(std::int64_t offset, const void* data, std::size_t size) {
  if (!seekable() || finished_ || fd_ < 0 || offset < 0 ||
      offset + static_cast<std::int64_t>(size) > bytes_) {
    throw Error(ErrorKind::kInternal, path_ + ": cannot write at " + std::to_string(offset));
  }
  flush_buffer();
  const char* from = static_cast<const char*>(data);
  while (size > 0) {
    const ssize_t n = pwrite(fd_, from, size, offset);
    if (n < 0) {
      if (errno == EINTR) continue;
      fail("write failed", errno);
    }
    if (n == 0) fail("write failed", EIO);
    from += n;
    offset += n;
    size -= static_cast<std::size_t>(n);
  }
}

void OutputFile::finish() {
  if (finished_) return;
  if (fd_ < 0) throw Error(ErrorKind::kInternal, path_ + ": closed twice");
  flush_buffer();
  if (format_ == Format::kBgzf) write_out(kBgzfEnd, sizeof kBgzfEnd);
  // EINVAL and EROFS: a FIFO or device, which cannot be synchronised.
  while (!standard_output_ && fsync(fd_) != 0) {
    if (errno == EINTR) continue;
    if (errno != EINVAL && errno != ENOTSUP && errno != EROFS) fail("fsync failed", errno);
    break;
  }
  // Closing a duplicate reports a late error (NFS), and leaves standard output to the process, and
  // a regular file open: its lock says that somebody has it until it has its name.
  const int copy = fcntl(fd_, F_DUPFD_CLOEXEC, 0);
  if (copy < 0 || (close(copy) != 0 && errno != EINTR)) fail("close failed", errno);
  if (!standard_output_ && target_.empty()) close(std::exchange(fd_, -1));  // a reader sees the end
  finished_ = true;
}

void OutputFile::take_name() {
  if (target_.empty() || named_) return;
  struct stat status {};
  replaces_ = stat(target_.c_str(), &status) == 0 || errno != ENOENT;
  // Where it cannot be kept it cannot be restored.
  if (replaces_) previous_.link(directory_of(target_), target_);
  if (const int error = temporary_.rename_to(target_)) fail("rename failed", error);
  named_ = true;
}

void OutputFile::give_name_back() noexcept {
  if (!named_) return;
  named_ = replaces_ ? !previous_.named() || previous_.rename_to(target_) != 0
                     : unlink(target_.c_str()) != 0;
}

void OutputFile::sync_directory() {
  if (target_.empty()) return;
  const int directory = open(directory_of(target_).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (directory < 0) return;
  const int error = fsync(directory) == 0 ? 0 : errno;
  close(directory);
  if (error == EIO || error == ENOSPC || error == EDQUOT) {
    // What was replaced is kept: the name can be given back.
    throw Error(ErrorKind::kIo, path_ + ": fsync of the directory failed: " + std::strerror(error));
  }
}

void OutputFile::commit() {
  OutputFile* const self[] = {this};
  commit_all(self);
}

void commit_all(std::span<OutputFile* const> files) {
  for (OutputFile* file : files) file->finish();
  const DeferSignals defer;  // all names or none
  try {
    for (OutputFile* file : files) file->take_name();
    for (OutputFile* file : files) file->sync_directory();
  } catch (...) {
    // All of them, before a message, for which there may be no memory.
    for (OutputFile* file : files) file->give_name_back();
    std::string left;
    for (const OutputFile* file : files) {
      if (file->named_) left += (left.empty() ? "" : ", ") + file->path_;
    }
    if (left.empty()) throw;
    try {
      throw;
    } catch (const Error& error) {
      throw Error(error.kind(), std::string(error.what()) + "; replaced all the same: " + left);
    }
  }
  for (OutputFile* file : files) file->discard();
}

}  // namespace m5
