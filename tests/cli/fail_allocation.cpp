// Loaded with LD_PRELOAD: the allocation number M5_FAIL_AT (from 1, of those of M5_FAIL_SIZE bytes
// and more, in any thread), and with M5_FAIL_ALL those after it too, fail as if there were no
// memory. Without M5_FAIL_AT: on exit their count is written to the file M5_FAIL_COUNT.
#include <dlfcn.h>

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <cstdlib>

extern "C" {
void* __libc_malloc(std::size_t size);
void* __libc_calloc(std::size_t count, std::size_t size);
void* __libc_realloc(void* old, std::size_t size);
void* __libc_memalign(std::size_t align, std::size_t size);
}

namespace {

std::atomic<long> count{0};
std::atomic<bool> ready{false};
long fail_at = 0;
std::size_t least = 0;
bool all = false;

long number(const char* name) {
  const char* text = std::getenv(name);
  return text != nullptr ? std::atol(text) : 0;
}

__attribute__((constructor)) void start() {
  fail_at = number("M5_FAIL_AT");
  least = static_cast<std::size_t>(number("M5_FAIL_SIZE"));
  all = number("M5_FAIL_ALL") != 0;
  ready = true;
}

__attribute__((destructor)) void finish() {
  const long counted = count;
  ready = false;
  const char* path = std::getenv("M5_FAIL_COUNT");
  if (path == nullptr) return;
  if (std::FILE* file = std::fopen(path, "w")) {
    std::fprintf(file, "%ld\n", counted);
    std::fclose(file);
  }
}

bool fails(std::size_t size) {
  if (!ready || size < least) return false;
  const long at = ++count;
  if (fail_at == 0 || !(all ? at >= fail_at : at == fail_at)) return false;
  errno = ENOMEM;
  return true;
}

}  // namespace

extern "C" {
void* malloc(std::size_t size) { return fails(size) ? nullptr : __libc_malloc(size); }
void* calloc(std::size_t n, std::size_t size) {
  return fails(n * size) ? nullptr : __libc_calloc(n, size);
}
void* realloc(void* old, std::size_t size) {
  return fails(size) ? nullptr : __libc_realloc(old, size);
}
void* memalign(std::size_t align, std::size_t size) {
  return fails(size) ? nullptr : __libc_memalign(align, size);
}
void* aligned_alloc(std::size_t align, std::size_t size) {
  return fails(size) ? nullptr : __libc_memalign(align, size);
}
int posix_memalign(void** memory, std::size_t align, std::size_t size) {
  void* const got = fails(size) ? nullptr : __libc_memalign(align, size);
  if (got == nullptr) return ENOMEM;
  *memory = got;
  return 0;
}
}
