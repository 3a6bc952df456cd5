// The device as host memory; everything is done when a call returns.
#include "kernels/cuda/device.hpp"

#include <cstring>
#include <new>

#include "m5/error.hpp"

namespace m5::kernels::cuda {

Device::Device(int index) : name_("emulation"), shared_bytes_(227 * 1024) {
  if (index != 0) throw Error(ErrorKind::kResource, "device cuda: there is one emulated GPU");
}
Device::~Device() = default;

std::uint64_t Device::free_bytes() const { return std::uint64_t{1} << 40; }

void* Device::allocate(std::size_t bytes, const char* what) {
  void* memory = ::operator new (bytes, std::align_val_t{256}, std::nothrow);
  if (!memory) {
    throw Error(ErrorKind::kResource,
                "device cuda: " + std::to_string(bytes) + " bytes for " + what + " are needed");
  }
  std::memset(memory, 0xff, bytes);  // NaN, in every type: what is read must have been written
  taken_ += bytes;
  return memory;
}
void Device::release(void* memory, std::size_t bytes) noexcept {
  ::operator delete (memory, std::align_val_t{256});
  taken_ -= bytes;
}
void* Device::allocate_pinned(std::size_t bytes) { return ::operator new(bytes); }
void Device::release_pinned(void* memory) noexcept { ::operator delete(memory); }

void Device::upload(void* to, const void* from, std::size_t bytes) { copy(to, from, bytes); }
void Device::copy(void* to, const void* from, std::size_t bytes) {
  if (bytes > 0) std::memcpy(to, from, bytes);
}
void Device::fill(void* memory, int byte, std::size_t bytes) {
  if (bytes > 0) std::memset(memory, byte, bytes);
}
void Device::finish() {}
void Device::download(void* to, const void* from, std::size_t bytes) { copy(to, from, bytes); }
void Device::before(const char*) {}
void Device::after(const char*) {}
void Device::profile(bool) {}
std::vector<KernelTime> Device::report() { return {}; }

}  // namespace m5::kernels::cuda
