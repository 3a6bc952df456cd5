#include "base/output.hpp"

#include <fcntl.h>
#include <htslib/bgzf.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <climits>
#include <csignal>
#include <cstring>

#include "base/random.hpp"
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

// Names of open temporaries, in static memory so that a signal handler may read them.
struct TemporarySlot {
  std::atomic<int> state{0};  // 0 free, 1 being filled, 2 in use
  char path[PATH_MAX];
};
std::array<TemporarySlot, 64> g_temporaries;

// -1 if the table is full or the path too long: that temporary is only removed by its destructor.
int register_temporary(const std::string& path) {
  if (path.size() >= PATH_MAX) return -1;
  for (std::size_t i = 0; i < g_temporaries.size(); ++i) {
    int expected = 0;
    if (!g_temporaries[i].state.compare_exchange_strong(expected, 1)) continue;
    std::memcpy(g_temporaries[i].path, path.c_str(), path.size() + 1);
    g_temporaries[i].state.store(2);
    return static_cast<int>(i);
  }
  return -1;
}

void release_temporary(int slot) {
  if (slot >= 0) g_temporaries[static_cast<std::size_t>(slot)].state.store(0);
}

extern "C" void clean_up_and_die(int signal_number) {
  const int saved = errno;
  remove_temporaries();
  errno = saved;
  // SA_RESETHAND has restored the default action.
  raise(signal_number);
}

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

bool has_bgzf_suffix(const std::string& path) {
  return ends_with(path, ".gz") || ends_with(path, ".bgz") || ends_with(path, ".bgzf");
}

void remove_temporaries() {
  for (TemporarySlot& slot : g_temporaries) {
    if (slot.state.load() == 2) unlink(slot.path);
  }
}

void remove_temporaries_on_signal() {
  for (int number : {SIGINT, SIGTERM, SIGHUP, SIGPIPE}) {
    struct sigaction old {};
    // A signal that the caller told us to ignore (nohup) stays ignored.
    if (sigaction(number, nullptr, &old) == 0 && old.sa_handler == SIG_IGN) continue;
    struct sigaction action {};
    action.sa_handler = clean_up_and_die;
    action.sa_flags = static_cast<int>(SA_RESETHAND | SA_NODEFER);
    sigemptyset(&action.sa_mask);
    sigaction(number, &action, nullptr);
  }
}

OutputFile::OutputFile(const std::string& path, Format format) : path_(path), format_(format) {
  buffer_.reserve(kBufferBytes);
  if (format_ == Format::kBgzf) block_.resize(kBgzfBlock);
  if (path_ == "-" || path_ == "/dev/stdout") {
    standard_output_ = true;
    fd_ = STDOUT_FILENO;
    return;
  }
  if (path_.empty()) fail("cannot create", ENOENT);
  struct stat status {};
  const bool exists = stat(path_.c_str(), &status) == 0;
  if (exists && S_ISDIR(status.st_mode)) fail("cannot write", EISDIR);
  if (exists && !S_ISREG(status.st_mode)) {
    fd_ = open(path_.c_str(), O_WRONLY | O_CLOEXEC);
    if (fd_ < 0) fail("cannot open for writing", errno);
    return;
  }
  // Renaming over it would succeed in spite of the file's own permissions.
  if (exists && access(path_.c_str(), W_OK) != 0) fail("cannot write", errno);
  target_ = follow_links(path_);  // a symbolic link stays one: the file it names is replaced
  if (target_.empty()) fail("cannot create", ELOOP);
  open_temporary();
  if (exists && fchmod(fd_, status.st_mode & 07777) != 0) {
    // Some file systems have no permissions to keep.
  }
}

void OutputFile::open_temporary() {
  const std::string stem = directory_of(target_) + "/.m5-" + std::to_string(getpid()) + "-";
  static std::atomic<std::uint64_t> counter{0};
  struct timespec now {};
  clock_gettime(CLOCK_REALTIME, &now);
  for (int attempt = 0; attempt < 100; ++attempt) {
    const std::uint64_t seed = static_cast<std::uint64_t>(now.tv_sec) * 1000000000ULL +
                               static_cast<std::uint64_t>(now.tv_nsec);
    temporary_ = stem + std::to_string(random_bits(seed, counter++) & 0xffffffffULL) + ".tmp";
    // Registered first: a signal between the two calls then leaves nothing behind.
    slot_ = register_temporary(temporary_);
    fd_ = open(temporary_.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd_ >= 0) return;
    const int error = errno;
    release_temporary(slot_);
    slot_ = -1;
    if (error != EEXIST && error != EINTR) {
      temporary_.clear();
      fail("cannot create", error);
    }
  }
  temporary_.clear();
  fail("cannot create", EEXIST);
}

OutputFile::~OutputFile() {
  if (!committed_) discard();
}

void OutputFile::discard() noexcept {
  if (fd_ >= 0 && !standard_output_) close(fd_);
  fd_ = -1;
  if (!temporary_.empty()) unlink(temporary_.c_str());
  temporary_.clear();
  release_temporary(slot_);
  slot_ = -1;
}

void OutputFile::fail(const char* action, int error) {
  const std::string name = standard_output_ ? "standard output" : path_;
  discard();
  throw Error(ErrorKind::kIo, name + ": " + action + ": " + std::strerror(error));
}

void OutputFile::write(const void* data, std::size_t size) {
  if (committed_ || fd_ < 0) {
    throw Error(ErrorKind::kInternal, path_ + ": written to after it was closed");
  }
  bytes_ += static_cast<std::int64_t>(size);
  const char* from = static_cast<const char*>(data);
  const std::size_t limit = format_ == Format::kBgzf ? kBgzfInput : kBufferBytes;
  if (format_ == Format::kPlain && size >= limit) {
    flush_buffer();
    write_out(from, size);
    return;
  }
  while (size > 0) {
    const std::size_t n = std::min(size, limit - buffer_.size());
    buffer_.insert(buffer_.end(), from, from + n);
    from += n;
    size -= n;
    if (buffer_.size() == limit) flush_buffer();
  }
}

void OutputFile::flush() {
  if (fd_ >= 0) flush_buffer();
}

void OutputFile::flush_buffer() {
  if (buffer_.empty()) return;
  if (format_ == Format::kBgzf) {
    write_block(buffer_.data(), buffer_.size());
  } else {
    write_out(buffer_.data(), buffer_.size());
  }
  buffer_.clear();
}

void OutputFile::write_block(const void* data, std::size_t size) {
  std::size_t compressed = block_.size();
  if (bgzf_compress(block_.data(), &compressed, data, size, -1) != 0) {
    discard();
    throw Error(ErrorKind::kInternal, path_ + ": BGZF compression failed");
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
  if (!seekable() || fd_ < 0 || offset < 0 || offset + static_cast<std::int64_t>(size) > bytes_) {
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

void OutputFile::commit() {
  if (committed_) return;
  if (fd_ < 0) throw Error(ErrorKind::kInternal, path_ + ": closed twice");
  flush_buffer();
  if (format_ == Format::kBgzf) write_out(kBgzfEnd, sizeof kBgzfEnd);
  if (standard_output_) {
    // Closing a duplicate reports a late error (NFS) and leaves the stream to the process.
    const int copy = dup(fd_);
    if (copy < 0 || close(copy) != 0) fail("close failed", errno);
    committed_ = true;
    return;
  }
  // EINVAL: a FIFO or device, which cannot be synchronised.
  if (fsync(fd_) != 0 && errno != EINVAL && errno != ENOTSUP && errno != EROFS) {
    fail("fsync failed", errno);
  }
  const int fd = fd_;
  fd_ = -1;
  if (close(fd) != 0 && errno != EINTR) fail("close failed", errno);
  if (!temporary_.empty()) {
    if (rename(temporary_.c_str(), target_.c_str()) != 0) fail("rename failed", errno);
    temporary_.clear();
    release_temporary(slot_);
    slot_ = -1;
    committed_ = true;
    const int directory = open(directory_of(target_).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (directory >= 0) {
      const int error = fsync(directory) == 0 ? 0 : errno;
      close(directory);
      if (error == EIO || error == ENOSPC) fail("fsync of the directory failed", error);
    }
  }
  committed_ = true;
}

}  // namespace m5
