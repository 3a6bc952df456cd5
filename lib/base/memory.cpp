#include "base/memory.hpp"

#include <algorithm>
#include <atomic>
#include <limits>
#if defined(__GLIBC__) && !defined(M5_ONLY_POSIX)  // defined by every header of the library
#include <malloc.h>
#endif

#include "base/system.hpp"
#include "base/text.hpp"
#include "m5/error.hpp"

namespace m5 {
namespace {

std::atomic<std::int64_t> allowed{0};
std::atomic<std::uint64_t> expected{0};

}  // namespace

MemoryLimit memory_limit(std::int64_t max_memory) {
  constexpr std::int64_t kAll = std::numeric_limits<std::int64_t>::max() / 2;  // and no overflow
  const std::int64_t left = available_memory_bytes(), held = rss_bytes();
  const std::int64_t available = left > kAll - held ? kAll : left + held;
  const bool by_option = max_memory > 0 && max_memory < available;
  return {static_cast<std::uint64_t>(by_option ? max_memory : available), by_option};
}

bool fits(std::uint64_t need, const MemoryLimit& limit) {
  return need <= kMemoryTolerance || need - kMemoryTolerance <= limit.bytes;
}

void set_max_memory(std::int64_t bytes) { allowed = bytes; }

void require_memory(std::uint64_t total, const std::string& what) {
  std::uint64_t before = expected;
  while (before < total && !expected.compare_exchange_weak(before, total)) {
  }
  const MemoryLimit limit = memory_limit(allowed);
  if (fits(total, limit)) return;
  throw Error(ErrorKind::kResource,
              what + ": needs " + with_commas(static_cast<std::int64_t>(total)) + " bytes, " +
                  with_commas(static_cast<std::int64_t>(limit.bytes)) +
                  (limit.by_option ? " allowed by --max-memory" : " available") +
                  "; use a smaller model, shorter records or a machine with more memory");
}

void require_more_memory(std::uint64_t more, const std::string& what) {
  require_memory(static_cast<std::uint64_t>(rss_bytes()) + more, what);
}

std::uint64_t expected_memory() { return expected; }

std::uint64_t block_memory(std::uint64_t bytes) {
  constexpr std::uint64_t kHugePage = std::uint64_t{1} << 21;
  return bytes < 2 * kHugePage ? bytes : (bytes + kHugePage - 1) / kHugePage * kHugePage;
}

std::uint64_t heap_memory(std::uint64_t bytes) {
  return std::max<std::uint64_t>(32, (bytes + 8 + 15) / 16 * 16);
}

void keep_no_freed_memory() {
#ifdef M_MMAP_THRESHOLD
  // Set, these no longer grow with what is freed.
  mallopt(M_MMAP_THRESHOLD, 1 << 18);
  mallopt(M_TRIM_THRESHOLD, 1 << 18);
#endif
}

}  // namespace m5
