// One GPU: its memory, its one stream, and the launches of kernels on it. Two implementations:
// device.cu, and emulation/device.cpp on the host.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "kernels/cuda/gpu.hpp"

namespace m5::kernels::cuda {

// Time of the kernels of one name, where it is asked for.
struct KernelTime {
  std::string name;
  std::int64_t launches = 0;
  double milliseconds = 0;
};

class Device {
 public:
  // Error(kResource) where there is no such device, or none that this library was built for.
  explicit Device(int index);
  ~Device();
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  const std::string& name() const { return name_; }
  // Of a block, at most.
  std::size_t shared_bytes() const { return shared_bytes_; }
  // Whether it has warpgroup_mma.hpp, and the kernels that were compiled for it.
  bool warpgroups() const { return warpgroups_; }
  // Waits for all that was queued: what is released is free then.
  std::uint64_t free_bytes() const;
  std::uint64_t taken_bytes() const { return taken_; }

  // Error(kResource) with the bytes asked for and free. `what` they are for. What was released
  // stays with the process, for the next pass; it counts as free here, not to others.
  void* allocate(std::size_t bytes, const char* what);
  void release(void* memory, std::size_t bytes) noexcept;
  // Of the host, that copies go to and from without another copy.
  void* allocate_pinned(std::size_t bytes);
  // Waits for all that was queued.
  void release_pinned(void* memory) noexcept;

  // Queued, in order; the host's side of an upload may be used again when it returns, which may be
  // when all that went before is done.
  void upload(void* to, const void* from, std::size_t bytes);
  // The same of pinned memory, at once: the host's side is in use until an Event after it.
  void upload_pinned(void* to, const void* from, std::size_t bytes);
  void download_pinned(void* to, const void* from, std::size_t bytes);
  void copy(void* to, const void* from, std::size_t bytes);
  void clear(void* memory, std::size_t bytes) { fill(memory, 0, bytes); }
  void fill(void* memory, int byte, std::size_t bytes);
  // Waits for all that was queued. Error(kResource) where something on the device failed.
  void finish();
  // Queued and waited for.
  void download(void* to, const void* from, std::size_t bytes);

  template <class... P, class... A>
  void launch(const char* name, void (*kernel)(P...), dim3 grid, int threads, std::size_t shared,
              A&&... arguments) {
    if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
    before(name);
#if defined(__CUDACC__)
    if (shared > 48 * 1024) allow_shared(reinterpret_cast<const void*>(kernel), shared);
    kernel<<<grid, static_cast<unsigned>(threads), shared, stream()>>>(
        static_cast<P>(arguments)...);
#else
    queue([=] {
      emulation::run_grid(grid, threads, shared, [&] { kernel(static_cast<P>(arguments)...); });
    });
#endif
    after(name);
  }

  // Around work that is queued by other means (products).
  void before(const char* name);
  void after(const char* name);

  // From now on, the time of every kernel; report() waits and gives what there is since.
  void profile(bool on);
  std::vector<KernelTime> report();

#if defined(__CUDACC__)
  cudaStream_t stream() const { return stream_; }
#else
  // Done, in order, when somebody waits: what comes too early or too late shows.
  void queue(std::function<void()> work);
  std::uint64_t queued() const { return done_ + queue_.size(); }  // since the beginning
  void run(std::uint64_t until);
#endif

 private:
  std::string name_;
  std::size_t shared_bytes_ = 0;
  bool warpgroups_ = false;
  std::uint64_t taken_ = 0;
#if defined(__CUDACC__)
  friend class Event;
  void use() const;
  static void allow_shared(const void* kernel, std::size_t bytes);
  void* try_allocate(std::size_t bytes, const char* what);  // null where it does not fit
  struct Mark {
    const char* name;
    cudaEvent_t begin, end;
  };
  int index_ = 0;
  cudaStream_t stream_ = nullptr;
  cudaMemPool_t pool_ = nullptr;  // null where the driver has none
  bool reads_pageable_ = false;   // of the host, without a copy by the driver
  bool profiling_ = false;
  std::vector<Mark> marks_;
#else
  std::deque<std::function<void()>> queue_;
  std::uint64_t done_ = 0;
#endif
};

// A place in the queue of a device.
class Event {
 public:
  explicit Event(Device& device);
#if defined(__CUDACC__)
  ~Event();
#else
  ~Event() = default;
#endif
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  void record();
  // Until all that was queued before record() is done. Errors as Device::finish().
  void wait();

 private:
  Device& device_;
#if defined(__CUDACC__)
  cudaEvent_t event_ = nullptr;
#else
  std::uint64_t until_ = 0;
#endif
};

// Pinned memory of the host.
template <class T>
class Pinned {
 public:
  Pinned(Device& device, std::int64_t count)
      : device_(device),
        data_(
            static_cast<T*>(device.allocate_pinned(static_cast<std::size_t>(count) * sizeof(T)))) {}
  ~Pinned() { device_.release_pinned(data_); }
  Pinned(const Pinned&) = delete;
  Pinned& operator=(const Pinned&) = delete;
  T* data() { return data_; }

 private:
  Device& device_;
  T* data_;
};

// The same, on its way to the device or from it until `done`.
template <class T>
struct Transfer {
  Transfer(Device& device, std::int64_t count) : values(device, count), done(device) {}
  Pinned<T> values;
  Event done;
};

// Memory of a device. Views are plain pointers into it.
template <class T>
class Array {
 public:
  Array() = default;
  Array(Device& device, std::int64_t count, const char* what)
      : device_(&device), size_(static_cast<std::size_t>(count)) {
    data_ = static_cast<T*>(device.allocate(size_ * sizeof(T), what));
  }
  Array(Array&& o) noexcept { swap(o); }
  Array& operator=(Array&& o) noexcept {
    Array gone(std::move(o));
    swap(gone);
    return *this;
  }
  ~Array() {
    if (data_) device_->release(data_, size_ * sizeof(T));
  }
  T* data() { return data_; }
  const T* data() const { return data_; }
  std::size_t size() const { return size_; }
  std::size_t bytes() const { return size_ * sizeof(T); }

 private:
  void swap(Array& o) noexcept {
    std::swap(device_, o.device_);
    std::swap(data_, o.data_);
    std::swap(size_, o.size_);
  }
  Device* device_ = nullptr;
  T* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace m5::kernels::cuda
