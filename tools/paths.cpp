#include "tools/paths.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/output.hpp"
#include "base/system.hpp"
#include "m5/error.hpp"

namespace m5 {
namespace {

struct File {
  std::string what, path;
  bool exists = false, standard_output = false;
  struct stat status {};

  bool regular() const { return exists && S_ISREG(status.st_mode); }
  // Written in place: nothing is lost by it.
  bool stream() const { return exists && !S_ISREG(status.st_mode); }
};

std::vector<File> look_at(const std::vector<NamedPath>& paths, bool outputs) {
  std::vector<File> files;
  for (const NamedPath& named : paths) {
    if (named.path.empty()) continue;
    File& file = files.emplace_back();
    file.what = named.what;
    file.path = named.path;
    file.standard_output = outputs && (named.path == "-" || named.path == "/dev/stdout");
    const int fd = outputs ? STDOUT_FILENO : STDIN_FILENO;
    const bool standard = file.standard_output || named.path == "-";
    file.exists =
        (standard ? fstat(fd, &file.status) : stat(named.path.c_str(), &file.status)) == 0;
  }
  return files;
}

bool same(const File& a, const File& b) {
  if (a.standard_output && b.standard_output) return true;
  if (a.regular() && b.regular()) {
    return a.status.st_dev == b.status.st_dev && a.status.st_ino == b.status.st_ino;
  }
  return !a.exists && !b.exists && same_file(a.path, b.path);
}

}  // namespace

void check_paths(const std::vector<NamedPath>& outputs, const std::vector<NamedPath>& inputs) {
  const std::vector<File> written = look_at(outputs, true), read = look_at(inputs, false);
  for (std::size_t i = 0; i < written.size(); ++i) {
    const File& output = written[i];
    for (std::size_t j = 0; j < i; ++j) {
      if (!same(output, written[j])) continue;
      throw Error(ErrorKind::kUsage,
                  written[j].what + " and " + output.what + " are the same file: " + output.path);
    }
    if (output.stream()) continue;
    for (const File& input : read) {
      if (!same(output, input)) continue;
      throw Error(ErrorKind::kUsage,
                  output.what + ": " + (output.standard_output ? "standard output" : output.path) +
                      " is also an input (" + input.what + "), which it would replace");
    }
  }
}

void require_readable(const std::vector<std::string>& files) {
  for (const std::string& file : files) {
    if (file == "-") continue;
    struct stat status {};
    if (access(file.c_str(), R_OK) != 0) {
      throw Error(ErrorKind::kIo, file + ": cannot open: " + std::strerror(errno));
    }
    if (stat(file.c_str(), &status) == 0 && S_ISDIR(status.st_mode)) {
      throw Error(ErrorKind::kIo, file + ": cannot read: " + std::strerror(EISDIR));
    }
  }
}

void require_writable(const std::string& path) {
  if (!is_stream(path)) {
    const OutputFile trial(path);
  } else if (path != "-" && path != "/dev/stdout" && access(path.c_str(), W_OK) != 0) {
    // Opening a pipe would wait for its reader, and closing it would be the end of what he reads.
    throw Error(ErrorKind::kIo, path + ": cannot write: " + std::strerror(errno));
  }
}

}  // namespace m5
