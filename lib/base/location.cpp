#include "base/location.hpp"

#include <dlfcn.h>
#ifdef __APPLE__
#include <mach-o/dyld.h>
#endif

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <system_error>

namespace m5 {
namespace {

namespace fs = std::filesystem;

fs::path program_file() {
#ifdef __APPLE__
  std::uint32_t size = 0;
  _NSGetExecutablePath(nullptr, &size);
  std::string path(size, '\0');
  if (_NSGetExecutablePath(path.data(), &size) != 0) return {};
  return path.c_str();
#else
  std::error_code error;
  return fs::read_symlink("/proc/self/exe", error);
#endif
}

// The file that holds this very function. Of a program, as opposed to a library, the system may
// give the name by which it was called, which need not be a path.
fs::path library_file() {
  Dl_info info{};
  if (dladdr(reinterpret_cast<const void*>(&own_folders), &info) == 0) return {};
  return info.dli_fname == nullptr ? "" : info.dli_fname;
}

}  // namespace

std::vector<std::string> own_folders() {
  std::vector<std::string> folders;
  const auto add = [&folders](const fs::path& file) {
    const std::string folder = file.parent_path().string();
    if (folder.empty() || std::find(folders.begin(), folders.end(), folder) != folders.end())
      return;
    folders.push_back(folder);
  };
  for (const fs::path& file : {library_file(), program_file()}) {
    std::error_code error;
    const fs::path resolved = fs::canonical(file, error);
    if (error) continue;
    add(file);
    add(resolved);
  }
  return folders;
}

}  // namespace m5
