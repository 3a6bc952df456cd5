#include "kernels/cpu/onednn_operands.hpp"

#include <algorithm>
#include <array>
#include <cstdlib>

#ifdef __GLIBC__
#include <execinfo.h>
#endif

#include "m5/error.hpp"

namespace m5::kernels::onednn {

using dnnl::memory;
using Dims = memory::dims;
using Type = memory::data_type;
using Tag = memory::format_tag;

namespace {

// oneDNN throws through pthread_once, and glibc, which loads its part of the unwinder when it is
// first needed, aborts if there is no memory for that. backtrace(3) loads it.
bool load_unwinder() {
#ifdef __GLIBC__
  void* frame = nullptr;
  backtrace(&frame, 1);
#endif
  return true;
}

}  // namespace

const dnnl::engine& engine() {
  static const dnnl::engine cpu(dnnl::engine::kind::cpu, 0);
  return cpu;
}

dnnl::stream& stream() {
  thread_local dnnl::stream mine(engine());
  return mine;
}

std::vector<std::uint8_t>& thread_bytes(int slot, std::size_t bytes) {
  thread_local std::array<std::vector<std::uint8_t>, 3> slots;
  auto& buffer = slots[static_cast<std::size_t>(slot)];
  if (buffer.size() < bytes) buffer.resize(bytes);
  return buffer;
}

SpareMemory::SpareMemory(std::size_t bytes) {
  static std::recursive_mutex mutex;
  [[maybe_unused]] static const bool loaded = load_unwinder();
  lock_ = std::unique_lock(mutex);
  void* const spare = std::malloc(bytes);
  asm volatile("" : : "g"(spare) : "memory");  // or the compiler leaves both calls out
  if (spare == nullptr)
    throw Error(ErrorKind::kResource, "out of memory for a product of matrices");
  std::free(spare);
}

memory::desc desc_of(Role role, int rows, int columns, int stride) {
  const Dims dims = {rows, columns};
  switch (role) {
    case Role::kWide:
      return {dims, Type::f32, Dims{stride == 0 ? columns : stride, 1}};
    case Role::kNarrow:
    case Role::kOther:
      return {dims, Type::bf16, Tag::ab};
    case Role::kTransposed:
      return {dims, Type::bf16, Tag::ba};
    case Role::kScratch:
      return {{columns}, Type::u8, Tag::a};
    default:
      return {dims, Type::f32, Tag::ab};
  }
}

memory operand(Role role, int rows, int columns, const void* data, int stride) {
  struct Known {
    Role role;
    int rows, columns, stride;
    memory object;
  };
  constexpr std::size_t kMost = 512;  // of all models that the thread has seen
  thread_local std::vector<Known> known;
  void* const handle = const_cast<void*>(data);
  for (const Known& k : known) {
    if (k.role != role || k.rows != rows || k.columns != columns || k.stride != stride) continue;
    k.object.set_data_handle(handle);
    return k.object;
  }
  if (known.size() == kMost) known.clear();
  const SpareMemory spare;
  return known
      .emplace_back(Known{
          role, rows, columns, stride, {desc_of(role, rows, columns, stride), engine(), handle}})
      .object;
}

memory scratchpad(int slot, std::size_t bytes) {
  return operand(Role::kScratch, 1, static_cast<int>(std::max<std::size_t>(bytes, 1)),
                 thread_bytes(slot, bytes + 1).data());
}

}  // namespace m5::kernels::onednn
