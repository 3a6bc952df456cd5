// Bytes as a file that has no name: in one, or in the pieces in which a pipe may bring them.
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <utility>

namespace m5::test {

// Other code opens it by its path, once if it is in pieces.
class InputFile {
 public:
  InputFile(InputFile&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  InputFile& operator=(InputFile&&) = delete;
  ~InputFile() {
    if (fd_ >= 0) close(fd_);
  }
  std::string path() const { return "/proc/self/fd/" + std::to_string(fd_); }

  static constexpr std::size_t kPieces = 200;
  static constexpr std::size_t kLongestInPieces = kPieces * 4095;  // a pipe holds 256 pages

  static InputFile whole(std::string_view bytes) {
    InputFile file(memfd_create("input", MFD_CLOEXEC));
    put(file.fd_, bytes);
    return file;
  }
  // A pipe that hands over one byte a read, or a two hundredth of a longer text: a line or a number
  // may begin in one read and end in another. At most kLongestInPieces.
  static InputFile pieces(std::string_view bytes) {
    int ends[2] = {-1, -1};
    if (bytes.size() > kLongestInPieces) give_up("more than a pipe holds");
    // O_DIRECT: what one write has put in, one read takes out. The pipe must hold it all.
    if (pipe2(ends, O_CLOEXEC | O_DIRECT) != 0 || fcntl(ends[1], F_SETPIPE_SZ, 1 << 20) < 0) {
      give_up("no pipe");
    }
    InputFile file(ends[0]);
    const std::size_t piece = bytes.size() / kPieces + 1;
    for (std::size_t at = 0; at < bytes.size(); at += piece) put(ends[1], bytes.substr(at, piece));
    // Whoever opens the pipe by its path finds its end after that.
    close(ends[1]);
    return file;
  }

 private:
  explicit InputFile(int fd) : fd_(fd) {}
  [[noreturn]] static void give_up(const char* what) {
    std::perror(what);
    std::abort();
  }
  static void put(int fd, std::string_view bytes) {
    if (write(fd, bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size())) {
      give_up("input of a test");
    }
  }

  int fd_;
};

}  // namespace m5::test
