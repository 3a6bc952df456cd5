#include "io/byte_source.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/log.hpp"
#include "m5/error.hpp"

namespace m5 {
namespace {

constexpr std::size_t kInputBytes = std::size_t{1} << 18;
constexpr std::size_t kOutputBytes = std::size_t{1} << 18;
constexpr std::size_t kLongestLine = std::size_t{1} << 24;
constexpr std::size_t kFirstBytes = 8;  // read before any is given out: they tell the format
constexpr int kStopMilliseconds = 50;   // at most so long until a waiting read notices a stop

// Opening a named pipe waits for its writer; the reads do that, where they can be stopped.
int open_for_reading(const std::string& path, bool may_be_stopped) {
  struct stat status {};
  const bool pipe = may_be_stopped && stat(path.c_str(), &status) == 0 && S_ISFIFO(status.st_mode);
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | (pipe ? O_NONBLOCK : 0));
  if (fd >= 0 && pipe) fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
  return fd;
}

}  // namespace

// zlib is driven member by member: gzread() accepts a file cut at a member boundary, and bytes
// after the last member, without a word.
struct ByteSource::Gzip {
  z_stream stream{};
  gz_header header{};
  std::array<unsigned char, 256> extra{};
  std::vector<char> output = std::vector<char>(kOutputBytes);
  bool in_member = false;
  std::int64_t members = 0;
  bool last_is_bgzf = false, last_is_empty = false;
  bool padded = false;  // zeros follow the last member

  // Size of the block by its BGZF field (SAM specification, 4.1), or -1 for a plain gzip member.
  std::int64_t bgzf_block_size() const {
    if (header.done != 1 || header.extra == Z_NULL) return -1;
    const std::size_t length = std::min<std::size_t>(header.extra_len, extra.size());
    for (std::size_t at = 0; at + 4 <= length;) {
      const std::size_t size = extra[at + 2] + std::size_t{256} * extra[at + 3];
      if (extra[at] == 'B' && extra[at + 1] == 'C' && size == 2 && at + 6 <= length) {
        return extra[at + 4] + std::int64_t{256} * extra[at + 5] + 1;
      }
      at += 4 + size;
    }
    return -1;
  }
};

ByteSource::ByteSource(const std::string& path, bool allow_no_eof, std::stop_token stop)
    : path_(path == "-" ? "standard input" : path),
      allow_no_eof_(allow_no_eof),
      stop_(std::move(stop)) {
  input_.resize(kInputBytes);  // first: nothing closes the file of an object half made
  fd_ = path == "-" ? STDIN_FILENO : open_for_reading(path, stop_.stop_possible());
  if (fd_ < 0) throw Error(ErrorKind::kIo, path_ + ": cannot open: " + std::strerror(errno));
  struct stat status {};
  if (fstat(fd_, &status) != 0 || S_ISDIR(status.st_mode)) {
    const int error = S_ISDIR(status.st_mode) ? EISDIR : errno;
    if (fd_ != STDIN_FILENO) close(fd_);
    throw Error(ErrorKind::kIo, path_ + ": cannot read: " + std::strerror(error));
  }
  may_wait_ = !S_ISREG(status.st_mode);
  // Files of /proc and the like say 0; stdin may have been read from before.
  if (S_ISREG(status.st_mode) && status.st_size > 0 && fd_ != STDIN_FILENO) {
    expected_size_ = status.st_size;
#if defined(POSIX_FADV_SEQUENTIAL) && !defined(M5_ONLY_POSIX)
    posix_fadvise(fd_, 0, 0, POSIX_FADV_SEQUENTIAL);
#endif
  }
}

ByteSource::~ByteSource() {
  if (gzip_) inflateEnd(&gzip_->stream);
  if (fd_ >= 0 && fd_ != STDIN_FILENO) close(fd_);
}

void ByteSource::damaged(const std::string& what) {
  throw Error(ErrorKind::kInput, path_ + ": " + what);
}

std::size_t ByteSource::read_some(char* to, std::size_t size) {
  while (true) {
    if (stop_.stop_requested()) throw Error(ErrorKind::kInternal, path_ + ": reading was stopped");
    if (may_wait_ && stop_.stop_possible()) {
      pollfd source{fd_, POLLIN, 0};
      if (poll(&source, 1, kStopMilliseconds) == 0) continue;
      // Ready, or an error, of which read() tells more.
    }
    const ssize_t n = ::read(fd_, to, size);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw Error(ErrorKind::kIo, path_ + ": read failed: " + std::strerror(errno));
    bytes_read_ += n;
    return static_cast<std::size_t>(n);
  }
}

bool ByteSource::fill() {
  if (begin_ < end_) return true;
  end_ = read_some(input_.data(), input_.size());
  begin_ = 0;
  if (end_ == 0 && expected_size_ >= 0 && bytes_read_ != expected_size_) {
    damaged("the file changed while it was read (" + std::to_string(expected_size_) +
            " bytes at first, " + std::to_string(bytes_read_) + " read)");
  }
  return end_ > 0;
}

std::string_view ByteSource::read() {
  if (at_end_) return {};
  if (!detected_) {
    detected_ = true;
    // A pipe may hand over one byte at a time.
    while (end_ < kFirstBytes) {
      const std::size_t n = read_some(input_.data() + end_, input_.size() - end_);
      if (n == 0) break;
      end_ += n;
    }
    if (end_ >= 2 && input_[0] == '\x1f' && input_[1] == '\x8b') {
      gzip_ = std::make_unique<Gzip>();
      if (inflateInit2(&gzip_->stream, 15 + 16) != Z_OK) {
        gzip_.reset();
        throw Error(ErrorKind::kResource, path_ + ": no memory to decompress");
      }
    }
  }
  return gzip_ ? read_gzip() : read_plain();
}

std::string_view ByteSource::read_plain() {
  if (!fill()) {
    at_end_ = true;
    return {};
  }
  const std::string_view bytes(input_.data() + begin_, end_ - begin_);
  begin_ = end_;
  return bytes;
}

void ByteSource::start_member() {
  Gzip& g = *gzip_;
  inflateReset(&g.stream);
  g.header = gz_header{};
  g.header.extra = g.extra.data();
  g.header.extra_max = static_cast<uInt>(g.extra.size());
  inflateGetHeader(&g.stream, &g.header);
  g.in_member = true;
}

void ByteSource::finish_member() {
  Gzip& g = *gzip_;
  const std::int64_t block = g.bgzf_block_size();
  if (block >= 0 && block != static_cast<std::int64_t>(g.stream.total_in)) {
    damaged("corrupt BGZF block " + std::to_string(g.members + 1) + ": wrong block size");
  }
  g.in_member = false;
  g.last_is_bgzf = block >= 0;
  g.last_is_empty = g.stream.total_out == 0;
  ++g.members;
}

std::string_view ByteSource::read_gzip() {
  Gzip& g = *gzip_;
  g.stream.next_out = reinterpret_cast<Bytef*>(g.output.data());
  g.stream.avail_out = static_cast<uInt>(g.output.size());
  while (g.stream.avail_out > 0) {
    const bool more = fill();
    if (!g.in_member) {
      if (!more) {
        at_end_ = true;
        if (g.last_is_bgzf && !g.last_is_empty) {
          if (!allow_no_eof_) {
            damaged(
                "truncated: the BGZF end-of-file block is missing (--allow-no-eof accepts such a "
                "file if you know that it is whole)");
          }
          log_warning(path_ + ": the BGZF end-of-file block is missing; the file may be truncated");
        }
        break;
      }
      // gzip, too, accepts zeros behind the last member: tapes and block devices are padded so.
      if (g.members > 0 && (g.padded || input_[begin_] == '\0')) {
        const auto pad = std::find_if(input_.begin() + static_cast<std::ptrdiff_t>(begin_),
                                      input_.begin() + static_cast<std::ptrdiff_t>(end_),
                                      [](char byte) { return byte != '\0'; });
        begin_ = static_cast<std::size_t>(pad - input_.begin());
        g.padded = true;
        if (begin_ == end_) continue;
        damaged("bytes that are not gzip follow gzip member " + std::to_string(g.members) +
                " and zeros");
      }
      start_member();
    }
    if (!more) {
      damaged("truncated: the file ends inside gzip member " + std::to_string(g.members + 1));
    }
    g.stream.next_in = reinterpret_cast<Bytef*>(input_.data() + begin_);
    g.stream.avail_in = static_cast<uInt>(end_ - begin_);
    const int status = inflate(&g.stream, Z_NO_FLUSH);
    begin_ = end_ - g.stream.avail_in;
    if (status == Z_STREAM_END) {
      finish_member();
    } else if (status == Z_MEM_ERROR) {
      throw Error(ErrorKind::kResource, path_ + ": no memory to decompress");
    } else if (status != Z_OK && status != Z_BUF_ERROR) {
      const std::string reason = g.stream.msg != nullptr ? g.stream.msg : "unknown error";
      if (g.members > 0 && g.stream.total_out == 0 && g.header.done != 1) {
        damaged("bytes that are not gzip follow gzip member " + std::to_string(g.members) + " (" +
                reason + ")");
      }
      damaged("corrupt gzip member " + std::to_string(g.members + 1) + ": " + reason);
    }
  }
  return {g.output.data(), g.output.size() - g.stream.avail_out};
}

bool LineReader::next(std::string& line) {
  line.clear();
  bool any = false;
  while (true) {
    if (chunk_.empty()) {
      chunk_ = source_.read();
      if (chunk_.empty()) {
        if (any) finish(line);
        return any;
      }
    }
    if (after_cr_) {
      after_cr_ = false;
      if (chunk_[0] == '\n') {
        chunk_.remove_prefix(1);
        continue;
      }
    }
    any = true;
    const std::size_t end = chunk_.find_first_of("\r\n");
    line.append(chunk_.substr(0, end));
    if (line.size() > kLongestLine) {
      throw Error(ErrorKind::kInput, path() + ": line " + std::to_string(line_number_ + 1) +
                                         ": longer than 16 MiB; this is no text file");
    }
    if (end == std::string_view::npos) {
      chunk_ = {};
      continue;
    }
    after_cr_ = chunk_[end] == '\r';
    chunk_.remove_prefix(end + 1);
    finish(line);
    return true;
  }
}

void LineReader::finish(std::string& line) {
  constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";
  if (++line_number_ == 1 && line.starts_with(kByteOrderMark)) line.erase(0, kByteOrderMark.size());
  if (line.find('\0') != std::string::npos) {
    throw Error(ErrorKind::kInput, path() + ": line " + std::to_string(line_number_) +
                                       ": NUL byte; this is no text file");
  }
}

}  // namespace m5
