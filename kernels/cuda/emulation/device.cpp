// The device as host memory. What is queued is done when somebody waits for it, not before.
#include "kernels/cuda/device.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>

#include "m5/error.hpp"

namespace m5::kernels::cuda {

// Behind every array, and still there when it is released.
constexpr std::size_t kGuardBytes = 4096;
constexpr unsigned char kGuard = 0xa5;

Device::Device(int index) : name_("emulation"), shared_bytes_(227 * 1024), warpgroups_(true) {
  if (index != 0) throw Error(ErrorKind::kResource, "device cuda: there is one emulated GPU");
}
Device::~Device() { finish(); }

std::uint64_t Device::free_bytes() const { return std::uint64_t{1} << 40; }

void* Device::allocate(std::size_t bytes, const char* what) {
  void* memory = ::operator new (bytes + kGuardBytes, std::align_val_t{256}, std::nothrow);
  if (!memory) {
    throw Error(ErrorKind::kResource,
                "device cuda: " + std::to_string(bytes) + " bytes for " + what + " are needed");
  }
  std::memset(memory, 0xff, bytes);  // NaN, in every type: what is read must have been written
  std::memset(static_cast<unsigned char*>(memory) + bytes, kGuard, kGuardBytes);
  taken_ += bytes;
  return memory;
}
void Device::release(void* memory, std::size_t bytes) noexcept {
  queue([=] {
    const auto* const guard = static_cast<const unsigned char*>(memory) + bytes;
    if (std::any_of(guard, guard + kGuardBytes, [](unsigned char c) { return c != kGuard; })) {
      std::fprintf(stderr, "emulation: a write behind an array of %zu bytes\n", bytes);
      std::abort();
    }
    ::operator delete (memory, std::align_val_t{256});
  });
  taken_ -= bytes;
}
void* Device::allocate_pinned(std::size_t bytes) { return ::operator new(bytes); }
void Device::release_pinned(void* memory) noexcept {
  finish();
  ::operator delete(memory);
}

void Device::queue(std::function<void()> work) { queue_.push_back(std::move(work)); }
void Device::run(std::uint64_t until) {
  for (; done_ < until; ++done_) {
    const std::function<void()> work = std::move(queue_.front());
    queue_.pop_front();
    work();
  }
}
void Device::finish() { run(queued()); }

void Device::upload(void* to, const void* from, std::size_t bytes) {
  const auto* const first = static_cast<const unsigned char*>(from);
  queue([to, read = std::vector<unsigned char>(first, first + bytes)] {
    std::copy(read.begin(), read.end(), static_cast<unsigned char*>(to));
  });
}
void Device::upload_pinned(void* to, const void* from, std::size_t bytes) { copy(to, from, bytes); }
void Device::download_pinned(void* to, const void* from, std::size_t bytes) {
  copy(to, from, bytes);
}
void Device::copy(void* to, const void* from, std::size_t bytes) {
  queue([=] {
    if (bytes > 0) std::memcpy(to, from, bytes);
  });
}
void Device::fill(void* memory, int byte, std::size_t bytes) {
  queue([=] {
    if (bytes > 0) std::memset(memory, byte, bytes);
  });
}
void Device::download(void* to, const void* from, std::size_t bytes) {
  copy(to, from, bytes);
  finish();
}
void Device::before(const char*) {}
void Device::after(const char*) {}
void Device::profile(bool) {}
std::vector<KernelTime> Device::report() { return {}; }

Event::Event(Device& device) : device_(device) {}
void Event::record() { until_ = device_.queued(); }
void Event::wait() { device_.run(until_); }

}  // namespace m5::kernels::cuda
