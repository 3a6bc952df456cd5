#include "kernels/cpu/cache.hpp"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <string>

#include "kernels/backend.hpp"

namespace m5::kernels {
namespace {

std::string first_word(const std::string& path) {
  std::ifstream file(path);
  std::string word;
  file >> word;
  return word;
}

// CPUs in a list such as "0-3,8"; 0 for none.
std::int64_t count_cpus(const std::string& list) {
  std::int64_t count = 0;
  const char* at = list.c_str();
  while (*at >= '0' && *at <= '9') {
    char* end = nullptr;
    const std::int64_t first = std::strtoll(at, &end, 10);
    const std::int64_t last = *end == '-' ? std::strtoll(end + 1, &end, 10) : first;
    count += last - first + 1;
    at = *end == ',' ? end + 1 : end;
  }
  return count;
}

}  // namespace

std::int64_t level2_cache_bytes(const std::string& cpu_folder) {
  for (int index = 0; index < 8; ++index) {
    const std::string cache = cpu_folder + "/cache/index" + std::to_string(index) + "/";
    if (first_word(cache + "level") != "2" || first_word(cache + "type") == "Instruction") continue;
    const std::string size = first_word(cache + "size");  // 1024K
    char* unit = nullptr;
    const std::int64_t number = std::strtoll(size.c_str(), &unit, 10);
    const std::int64_t factor = *unit == 'K' ? 1 << 10 : *unit == 'M' ? 1 << 20 : 1;
    const std::int64_t sharers =
        std::max<std::int64_t>(1, count_cpus(first_word(cache + "shared_cpu_list")));
    if (number > 0) return number * factor / sharers;
  }
#ifdef _SC_LEVEL2_CACHE_SIZE
  if (const long bytes = sysconf(_SC_LEVEL2_CACHE_SIZE); bytes > 0) return bytes;
#endif
  return std::int64_t{1} << 20;
}

// The workspace of a block about fills the cache: smaller ones call the products more often, larger
// ones are read back from the next level. Measured flat within 5 % around it (m5-bench(1)).
int block_rows_for(std::int64_t cache_bytes, std::int64_t row_bytes) {
  const std::int64_t run = kRunRows * std::max<std::int64_t>(row_bytes, 1);
  const std::int64_t runs = (cache_bytes + run / 2) / run;
  return kRunRows * static_cast<int>(std::clamp<std::int64_t>(runs, 1, kTileRows / kRunRows));
}

}  // namespace m5::kernels
