#include "base/system.hpp"

#include <fcntl.h>
#if defined(__linux__) && !defined(M5_ONLY_POSIX)
#define M5_LINUX 1
#include <sched.h>
#endif
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <optional>
#include <sstream>
#include <system_error>
#include <thread>
#include <vector>

#include "base/numbers.hpp"
#include "m5/error.hpp"
#include "m5/session.hpp"

namespace m5 {
namespace {

constexpr std::int64_t kNoLimit = std::numeric_limits<std::int64_t>::max();

std::string slurp(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

// A file of /proc. Where another system has one, it has other files.
std::string proc([[maybe_unused]] const std::string& name) {
#ifdef M5_LINUX
  return slurp("/proc/" + name);
#else
  return "";
#endif
}

std::optional<std::int64_t> number(const std::string& text) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end == text.data()) return std::nullopt;
  return value;
}

// The value after `key` in lines such as "MemAvailable:   123 kB" or "inactive_file 123".
std::optional<std::int64_t> field(const std::string& text, const std::string& key) {
  std::istringstream lines(text);
  std::string line;
  while (std::getline(lines, line)) {
    if (line.compare(0, key.size(), key) != 0) continue;
    std::size_t at = key.size();
    while (at < line.size() && (line[at] == ' ' || line[at] == '\t')) ++at;
    return number(line.substr(at));
  }
  return std::nullopt;
}

struct Group {
  std::string folder;  // under the mount point, with its controller in v1
  std::string path;    // "/a/b", or "/"
};

// The group of a v1 controller, or of v2 when `controller` is empty.
std::optional<Group> find_group(const std::string& membership, const std::string& controller) {
  std::istringstream lines(membership);
  std::string line;
  while (std::getline(lines, line)) {
    const std::size_t first = line.find(':');
    const std::size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    const bool found = controller.empty()
                           ? line.compare(0, 3, "0::") == 0
                           : controllers.find("," + controller + ",") != std::string::npos;
    if (found) return Group{controller.empty() ? "" : "/" + controller, line.substr(second + 1)};
  }
  return std::nullopt;
}

// Least value of `limit(folder)` from the group up to the root. In a container the path may not be
// visible; the mount point itself is then the group.
template <class Limit>
std::int64_t tightest(const std::optional<Group>& group, const std::string& root, Limit limit) {
  if (!group) return kNoLimit;
  std::int64_t least = kNoLimit;
  std::string path = group->path == "/" ? "" : group->path;
  while (true) {
    least = std::min(least, limit(root + group->folder + path));
    if (path.empty()) return least;
    const std::size_t slash = path.rfind('/');
    path.resize(slash == std::string::npos ? 0 : slash);
  }
}

std::int64_t whole_cpus(std::int64_t quota, std::int64_t period) {
  if (quota <= 0 || period <= 0) return kNoLimit;
  return std::max<std::int64_t>(1, quota / period + (quota % period != 0));
}

std::int64_t memory_left(std::optional<std::int64_t> limit, std::optional<std::int64_t> used,
                         std::optional<std::int64_t> reclaimable) {
  if (!limit || *limit >= (std::int64_t{1} << 60)) return kNoLimit;  // v1 writes "none" as 2^63
  const std::int64_t taken = used.value_or(0) - reclaimable.value_or(0);
  return std::max<std::int64_t>(0, *limit - std::max<std::int64_t>(0, taken));
}

}  // namespace

std::int64_t cgroup_cpus(const std::string& membership, const std::string& root) {
  const auto v2 = [](const std::string& folder) {
    std::istringstream text(slurp(folder + "/cpu.max"));
    std::string quota, period;
    text >> quota >> period;
    return whole_cpus(number(quota).value_or(0), number(period).value_or(100000));
  };
  const auto v1 = [](const std::string& folder) {
    return whole_cpus(number(slurp(folder + "/cpu.cfs_quota_us")).value_or(0),
                      number(slurp(folder + "/cpu.cfs_period_us")).value_or(0));
  };
  return std::min(tightest(find_group(membership, ""), root, v2),
                  tightest(find_group(membership, "cpu"), root, v1));
}

std::int64_t cgroup_memory_left(const std::string& membership, const std::string& root) {
  const auto v2 = [](const std::string& folder) {
    return memory_left(number(slurp(folder + "/memory.max")),
                       number(slurp(folder + "/memory.current")),
                       field(slurp(folder + "/memory.stat"), "inactive_file"));
  };
  const auto v1 = [](const std::string& folder) {
    return memory_left(number(slurp(folder + "/memory.limit_in_bytes")),
                       number(slurp(folder + "/memory.usage_in_bytes")),
                       field(slurp(folder + "/memory.stat"), "total_inactive_file"));
  };
  return std::min(tightest(find_group(membership, ""), root, v2),
                  tightest(find_group(membership, "memory"), root, v1));
}

int available_cpus() {
  std::int64_t cpus = std::max(1U, std::thread::hardware_concurrency());
#ifdef M5_LINUX
  // The fixed-size mask fails with EINVAL on machines of more than 1024 CPUs, so it grows.
  for (std::size_t bits = 1024; bits <= (std::size_t{1} << 20); bits *= 4) {
    cpu_set_t* set = CPU_ALLOC(bits);
    if (set == nullptr) break;
    const std::size_t size = CPU_ALLOC_SIZE(bits);
    CPU_ZERO_S(size, set);
    const bool ok = sched_getaffinity(0, size, set) == 0;
    if (ok) cpus = std::max(1, CPU_COUNT_S(size, set));
    CPU_FREE(set);
    if (ok) break;
  }
#endif
  cpus = std::min(cpus, cgroup_cpus(proc("self/cgroup"), "/sys/fs/cgroup"));
  return static_cast<int>(cpus);
}

std::int64_t available_memory_bytes() {
  const auto kilobytes = field(proc("meminfo"), "MemAvailable:");
  std::int64_t left = kilobytes ? *kilobytes * 1024 : kNoLimit;
#ifdef _SC_PHYS_PAGES
  // What is free is not asked for in one way everywhere; what there is, nearly so.
  const long pages = sysconf(_SC_PHYS_PAGES), page_bytes = sysconf(_SC_PAGESIZE);
  if (!kilobytes && pages > 0 && page_bytes > 0) left = std::int64_t{pages} * page_bytes;
#endif
  struct rlimit limit {};
  if (getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur < std::uint64_t{1} << 60) {
    const std::int64_t taken = field(proc("self/status"), "VmSize:").value_or(0) * 1024;
    left = std::min(left,
                    std::max<std::int64_t>(0, static_cast<std::int64_t>(limit.rlim_cur) - taken));
  }
  return std::min(left, cgroup_memory_left(proc("self/cgroup"), "/sys/fs/cgroup"));
}

std::int64_t peak_rss_bytes() {
  // Not getrusage: its maximum is inherited from the parent through exec.
  const auto kilobytes = field(proc("self/status"), "VmHWM:");
  if (kilobytes) return *kilobytes * 1024;
  struct rusage usage {};
  getrusage(RUSAGE_SELF, &usage);
#ifdef __APPLE__
  return usage.ru_maxrss;  // bytes
#else
  return static_cast<std::int64_t>(usage.ru_maxrss) * 1024;
#endif
}

std::int64_t rss_bytes() {
  const auto kilobytes = field(proc("self/status"), "VmRSS:");
  return kilobytes ? *kilobytes * 1024 : peak_rss_bytes();  // no less than is held
}

std::int64_t parse_size(const std::string& text, const std::string& option) {
  double value = -1, factor = 1;
  const char* const last = text.data() + text.size();
  const auto [end, error] = parse_number(text.data(), last, value, std::chars_format::fixed);
  bool ok =
      error == std::errc() && !text.empty() && std::isdigit(static_cast<unsigned char>(text[0]));
  if (ok && end != last) {
    switch (*end) {
      case 'k':
      case 'K':
        factor = 1e3;
        break;
      case 'm':
      case 'M':
        factor = 1e6;
        break;
      case 'g':
      case 'G':
        factor = 1e9;
        break;
      default:
        ok = false;
    }
    ok = ok && end + 1 == last;
  }
  const double product = std::round(value * factor * 1e3) / 1e3;  // 1.1k is 1100 in binary too
  if (!ok || product != std::floor(product) || product >= 9e15) {
    throw Error(ErrorKind::kUsage, option + ": '" + text +
                                       "' is not a size: a whole number, or a number with k, M or "
                                       "G (x1000), such as 4096, 4k or 2M");
  }
  return static_cast<std::int64_t>(product);
}

std::string follow_links(const std::string& path) {
  constexpr int kMost = 40;  // as the kernel does
  std::string name = path;
  for (int links = 0; links <= kMost; ++links) {
    std::error_code error;
    const std::filesystem::path link = std::filesystem::read_symlink(name, error);
    if (error) return name;  // no link
    name = (std::filesystem::path(name).parent_path() / link).string();
  }
  return "";
}

bool same_file(const std::string& a, const std::string& b) {
  namespace fs = std::filesystem;
  if (a.empty() || b.empty()) return false;
  if (a == b) return true;
  std::error_code error_a, error_b;  // what cannot be resolved (a pipe in /dev/fd) has one name
  const fs::path path_a = fs::weakly_canonical(fs::absolute(follow_links(a), error_a), error_a);
  const fs::path path_b = fs::weakly_canonical(fs::absolute(follow_links(b), error_b), error_b);
  return !error_a && !error_b && path_a == path_b;
}

void guard_standard_streams() {
  for (int fd = 0; fd <= 2; ++fd) {
    if (fcntl(fd, F_GETFD) >= 0) continue;
    // Opens take the lowest free number, which is fd. The wrong direction makes its use an error.
    const int got = open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY);
    if (got >= 0 && got != fd) close(got);
  }
}

}  // namespace m5
