// Loaded with LD_PRELOAD: the thread number M5_FAIL_AT (from 1) and those after it are refused.
// Without M5_FAIL_AT: on exit their count is written to the file M5_FAIL_COUNT.
#include <dlfcn.h>
#include <pthread.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>

namespace {

std::atomic<long> count{0};

__attribute__((destructor)) void finish() {
  const char* path = std::getenv("M5_FAIL_COUNT");
  if (path == nullptr) return;
  if (std::FILE* file = std::fopen(path, "w")) {
    std::fprintf(file, "%ld\n", count.load());
    std::fclose(file);
  }
}

}  // namespace

extern "C" __attribute__((visibility("default"))) int pthread_create(
    pthread_t* thread, const pthread_attr_t* attributes, void* (*start)(void*),
    void* argument) noexcept {
  using Create = int (*)(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*);
  static const auto real = reinterpret_cast<Create>(dlsym(RTLD_NEXT, "pthread_create"));
  const char* const text = std::getenv("M5_FAIL_AT");
  if (++count >= (text != nullptr ? std::atol(text) : 0) && text != nullptr) return EAGAIN;
  return real(thread, attributes, start, argument);
}
