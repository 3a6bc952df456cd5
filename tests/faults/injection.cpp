#include "tests/faults/injection.hpp"

#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <new>

namespace m5::faults {
namespace {

std::atomic<bool> armed{false};
std::atomic<Call> kind{};
std::atomic<Effect> effect{};
std::atomic<std::int64_t> count{0}, at{0};

// Whether this call is one that the effect is for.
bool is_hit(Call call) {
  if (!armed || kind != call) return false;
  const std::int64_t n = ++count;
  return at > 0 && (effect == Effect::kFailsFromThen ? n >= at : n == at);
}

bool fails(Call call) {
  if (!is_hit(call)) return false;
  if (before_failure != nullptr) before_failure();
  return true;
}

template <class Real>
auto call_system(Real real, bool fails_alone = true) -> decltype(real()) {
  if (!is_hit(Call::kSystem)) return real();
  if (effect == Effect::kFailsFromThen || (effect == Effect::kFails && fails_alone)) {
    errno = EIO;
    return -1;
  }
  if (effect == Effect::kSignalBefore) raise(SIGTERM);
  const auto result = real();
  const int error = errno;
  if (effect == Effect::kSignalAfter) raise(SIGTERM);
  errno = error;
  return result;
}

}  // namespace

Injection::Injection(Call call, std::int64_t n, Effect what) {
  kind = call;
  effect = what;
  count = 0;
  at = n;
  armed = true;
}
void Injection::end() { armed = false; }
std::int64_t Injection::calls() const { return count; }

}  // namespace m5::faults

using m5::faults::Call;
using m5::faults::call_system;
using m5::faults::fails;

namespace {
void* allocate(std::size_t bytes) {
  return fails(Call::kNew) ? nullptr : std::malloc(bytes > 0 ? bytes : 1);
}
}  // namespace

void* operator new(std::size_t bytes) {
  void* const memory = allocate(bytes);
  if (!memory) throw std::bad_alloc();
  return memory;
}
void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept { return allocate(bytes); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete(void* memory, const std::nothrow_t&) noexcept { std::free(memory); }

// The C++ library calls this one: a program's names come before those of its libraries.
extern "C" __attribute__((visibility("default"))) int pthread_create(
    pthread_t* thread, const pthread_attr_t* attributes, void* (*start)(void*),
    void* argument) noexcept {
  using Create = int (*)(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*);
  static const auto real = reinterpret_cast<Create>(dlsym(RTLD_NEXT, "pthread_create"));
  return fails(Call::kThread) ? EAGAIN : real(thread, attributes, start, argument);
}

// The linker (--wrap) sends the calls of the program here.
extern "C" {
int __real_open(const char*, int, ...);
ssize_t __real_write(int, const void*, size_t);
ssize_t __real_pwrite(int, const void*, size_t, off_t);
int __real_fsync(int);
int __real_fchmod(int, mode_t);
int __real_fcntl(int, int, ...);
int __real_close(int);
int __real_rename(const char*, const char*);
int __real_link(const char*, const char*);
int __real_unlink(const char*);
int __real_flock(int, int);
int __real_stat(const char*, struct stat*);
int __real_fstat(int, struct stat*);
int __real_access(const char*, int);
int __real_bgzf_compress(void*, size_t*, const void*, size_t, int);

int __wrap_open(const char* path, int flags, mode_t mode) {
  return call_system([&] { return __real_open(path, flags, mode); });
}
ssize_t __wrap_write(int fd, const void* data, size_t size) {
  return call_system([&] { return __real_write(fd, data, size); });
}
ssize_t __wrap_pwrite(int fd, const void* data, size_t size, off_t offset) {
  return call_system([&] { return __real_pwrite(fd, data, size, offset); });
}
int __wrap_fsync(int fd) {
  return call_system([&] { return __real_fsync(fd); });
}
int __wrap_fchmod(int fd, mode_t mode) {
  return call_system([&] { return __real_fchmod(fd, mode); });
}
int __wrap_fcntl(int fd, int command, long argument) {
  return call_system([&] { return __real_fcntl(fd, command, argument); });
}
int __wrap_close(int fd) {
  const auto close = [&] { return __real_close(fd); };
  const int result = call_system(close);
  if (result < 0) close();
  return result;
}
int __wrap_rename(const char* from, const char* to) {
  return call_system([&] { return __real_rename(from, to); });
}
int __wrap_link(const char* from, const char* to) {
  return call_system([&] { return __real_link(from, to); });
}
int __wrap_unlink(const char* path) {
  return call_system([&] { return __real_unlink(path); }, false);
}
int __wrap_flock(int fd, int operation) {
  return call_system([&] { return __real_flock(fd, operation); });
}
int __wrap_stat(const char* path, struct stat* status) {
  return call_system([&] { return __real_stat(path, status); });
}
int __wrap_fstat(int fd, struct stat* status) {
  return call_system([&] { return __real_fstat(fd, status); });
}
int __wrap_access(const char* path, int mode) {
  return call_system([&] { return __real_access(path, mode); });
}
int __wrap_bgzf_compress(void* to, size_t* room, const void* from, size_t size, int level) {
  return call_system([&] { return __real_bgzf_compress(to, room, from, size, level); });
}
}
