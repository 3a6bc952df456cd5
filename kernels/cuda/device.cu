#include "kernels/cuda/device.hpp"

#include <algorithm>

#include "m5/error.hpp"

namespace m5::kernels::cuda {
namespace {

void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  throw Error(ErrorKind::kResource,
              std::string("device cuda: ") + what + " failed: " + cudaGetErrorString(status));
}

std::string megabytes(std::uint64_t bytes) { return std::to_string((bytes + 999999) / 1000000); }

// Around calls that give something back: they cannot throw, and the thread may never have chosen a
// GPU. What fails there is forgotten, or the next launch would be blamed for it.
class Unchecked {
 public:
  explicit Unchecked(int index) { cudaSetDevice(index); }
  ~Unchecked() { cudaGetLastError(); }
  Unchecked(const Unchecked&) = delete;
  Unchecked& operator=(const Unchecked&) = delete;
};

}  // namespace

Device::Device(int index) : index_(index) {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status != cudaSuccess || count == 0) {
    throw Error(ErrorKind::kResource, std::string("device cuda: no GPU was found (") +
                                          (status == cudaSuccess ? "the driver knows of none"
                                                                 : cudaGetErrorString(status)) +
                                          ")");
  }
  if (index < 0 || index >= count) {
    throw Error(ErrorKind::kResource, "device cuda:" + std::to_string(index) + ": there are " +
                                          std::to_string(count) + " GPUs, numbered from 0");
  }
  check(cudaSetDevice(index), "choosing the GPU");
  cudaDeviceProp properties;
  check(cudaGetDeviceProperties(&properties, index), "asking for the properties of the GPU");
  if (properties.major < 8) {
    throw Error(ErrorKind::kResource,
                std::string("device cuda: ") + properties.name + " is of compute capability " +
                    std::to_string(properties.major) + "." + std::to_string(properties.minor) +
                    "; 8.0 or newer is needed");
  }
  name_ = properties.name;
  shared_bytes_ = properties.sharedMemPerBlockOptin;
  warpgroups_ = properties.major == 9 && properties.minor == 0;
  check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "making a stream");
  int pools = 0, reads_pageable = 0;
  check(cudaDeviceGetAttribute(&pools, cudaDevAttrMemoryPoolsSupported, index),
        "asking for the properties of the GPU");
  check(cudaDeviceGetAttribute(&reads_pageable, cudaDevAttrPageableMemoryAccess, index),
        "asking for the properties of the GPU");
  reads_pageable_ = reads_pageable != 0;
  if (pools) {
    // Gigabytes that are given back and taken again for every pass cost as much as its kernels.
    check(cudaDeviceGetDefaultMemPool(&pool_, index), "asking for the pool of memory");
    std::uint64_t kept = UINT64_MAX;
    check(cudaMemPoolSetAttribute(pool_, cudaMemPoolAttrReleaseThreshold, &kept), "keeping memory");
  }
}

Device::~Device() {
  const Unchecked here(index_);
  for (const Mark& mark : marks_) {
    cudaEventDestroy(mark.begin);
    cudaEventDestroy(mark.end);
  }
  if (stream_) {
    cudaStreamSynchronize(stream_);  // what is released goes back to the pool, which is emptied
    cudaStreamDestroy(stream_);
  }
  if (pool_) cudaMemPoolTrimTo(pool_, 0);
}

// Which GPU is the current one is a matter of each thread.
void Device::use() const { check(cudaSetDevice(index_), "choosing the GPU"); }

std::uint64_t Device::free_bytes() const {
  std::size_t free = 0, total = 0;
  use();
  check(cudaStreamSynchronize(stream_), "a kernel");  // what is released is, then
  check(cudaMemGetInfo(&free, &total), "asking for the free memory");
  if (!pool_) return free;
  std::uint64_t reserved = 0, used = 0;
  check(cudaMemPoolGetAttribute(pool_, cudaMemPoolAttrReservedMemCurrent, &reserved),
        "asking for the free memory");
  check(cudaMemPoolGetAttribute(pool_, cudaMemPoolAttrUsedMemCurrent, &used),
        "asking for the free memory");
  return free + (reserved - used);
}

void* Device::try_allocate(std::size_t bytes, const char* what) {
  void* memory = nullptr;
  const cudaError_t status =
      pool_ ? cudaMallocAsync(&memory, bytes, stream_) : cudaMalloc(&memory, bytes);
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();  // forgotten, so that the next call does not report it
    return nullptr;
  }
  check(status, what);
  return memory;
}

void* Device::allocate(std::size_t bytes, const char* what) {
  use();
  const std::size_t least = std::max<std::size_t>(bytes, 16);
  void* memory = try_allocate(least, what);
  if (!memory && pool_) {  // what the pool keeps may lie in pieces
    finish();
    check(cudaMemPoolTrimTo(pool_, 0), "giving back memory");
    memory = try_allocate(least, what);
  }
  if (!memory) {
    throw Error(ErrorKind::kResource, "device cuda: " + megabytes(bytes) + " MB for " + what +
                                          " are needed, " + megabytes(free_bytes()) +
                                          " MB are free on " + name_);
  }
  taken_ += bytes;
  return memory;
}

void Device::release(void* memory, std::size_t bytes) noexcept {
  const Unchecked here(index_);
  if (pool_) {
    cudaFreeAsync(memory, stream_);
  } else {
    cudaFree(memory);
  }
  taken_ -= bytes;
}

void* Device::allocate_pinned(std::size_t bytes) {
  use();
  void* memory = nullptr;
  const cudaError_t status =
      cudaHostAlloc(&memory, std::max<std::size_t>(bytes, 16), cudaHostAllocDefault);
  if (status != cudaSuccess) {
    cudaGetLastError();
    throw Error(ErrorKind::kResource,
                "device cuda: " + megabytes(bytes) +
                    " MB of the host's memory for copies: " + cudaGetErrorString(status));
  }
  return memory;
}

void Device::release_pinned(void* memory) noexcept {
  const Unchecked here(index_);
  cudaStreamSynchronize(stream_);  // a copy may be queued, where a pass ended early
  cudaFreeHost(memory);
}

void Device::upload(void* to, const void* from, std::size_t bytes) {
  upload_pinned(to, from, bytes);
  // Pageable memory is read, into a buffer of the driver, before the call returns; but not where
  // the GPU reads such memory itself (GH200, Linux with HMM): there the copy may still be queued.
  if (reads_pageable_) finish();
}

void Device::upload_pinned(void* to, const void* from, std::size_t bytes) {
  if (bytes == 0) return;
  use();
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream_), "a copy to the GPU");
}

void Device::download_pinned(void* to, const void* from, std::size_t bytes) {
  if (bytes == 0) return;
  use();
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, stream_), "a copy from the GPU");
}

void Device::copy(void* to, const void* from, std::size_t bytes) {
  if (bytes == 0) return;
  use();
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream_), "a copy on the GPU");
}

void Device::fill(void* memory, int byte, std::size_t bytes) {
  if (bytes == 0) return;
  use();
  check(cudaMemsetAsync(memory, byte, bytes, stream_), "filling memory");
}

void Device::finish() {
  use();
  check(cudaStreamSynchronize(stream_), "a kernel");
}

void Device::download(void* to, const void* from, std::size_t bytes) {
  download_pinned(to, from, bytes);
  finish();
}

void Device::allow_shared(const void* kernel, std::size_t bytes) {
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                             static_cast<int>(bytes)),
        "asking for shared memory");
}

void Device::before(const char* name) {
  use();
  if (!profiling_) return;
  Mark mark{name, nullptr, nullptr};
  check(cudaEventCreate(&mark.begin), "making an event");
  check(cudaEventCreate(&mark.end), "making an event");
  check(cudaEventRecord(mark.begin, stream_), "an event");
  marks_.push_back(mark);
}

void Device::after(const char* name) {
  check(cudaGetLastError(), name);
  if (profiling_) check(cudaEventRecord(marks_.back().end, stream_), "an event");
}

void Device::profile(bool on) { profiling_ = on; }

std::vector<KernelTime> Device::report() {
  finish();
  std::vector<KernelTime> times;
  for (const Mark& mark : marks_) {
    float milliseconds = 0;
    check(cudaEventElapsedTime(&milliseconds, mark.begin, mark.end), "timing a kernel");
    cudaEventDestroy(mark.begin);
    cudaEventDestroy(mark.end);
    auto at = std::find_if(times.begin(), times.end(),
                           [&](const KernelTime& t) { return t.name == mark.name; });
    if (at == times.end()) at = times.insert(times.end(), KernelTime{mark.name, 0, 0});
    ++at->launches;
    at->milliseconds += static_cast<double>(milliseconds);
  }
  marks_.clear();
  std::sort(times.begin(), times.end(), [](const KernelTime& a, const KernelTime& b) {
    return a.milliseconds > b.milliseconds;
  });
  return times;
}

Event::Event(Device& device) : device_(device) {
  device.use();
  check(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming), "making an event");
}
Event::~Event() {
  const Unchecked here(device_.index_);
  cudaEventDestroy(event_);
}
void Event::record() {
  device_.use();
  check(cudaEventRecord(event_, device_.stream()), "an event");
}
void Event::wait() {
  device_.use();
  check(cudaEventSynchronize(event_), "a kernel");
}

}  // namespace m5::kernels::cuda
