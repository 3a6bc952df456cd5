#include "kernels/cuda/slab.hpp"

namespace m5::kernels::cuda {
namespace {

constexpr int kThreads = 256;

// The region that has element i.
M5_DEVICE Region region_at(const Region* regions, int count, std::int64_t i) {
  int first = 0, last = count - 1;
  while (first < last) {
    const int middle = (first + last + 1) / 2;
    if (regions[middle].offset <= i) {
      first = middle;
    } else {
      last = middle - 1;
    }
  }
  return regions[first];
}

// v = what is elements i to i + 3 in the slab's order (kOfSlab) or the device's, from x, which has
// the other one from element `first` on.
template <bool kOfSlab>
M5_DEVICE void load_moved(const Region* regions, int n, std::int64_t i, std::int64_t first,
                          const float* x, float (&v)[4]) {
  const Region region = region_at(regions, n, i);
  const std::int64_t k = i - region.offset;
  const auto place = [&](std::int64_t at) {
    return kOfSlab ? region.on_device(at) : region.in_slab(at);
  };
  const std::int64_t begin = region.offset - first;
  if (region.by_fours()) {
    load4(x + (begin + place(k)), v);
  } else {
#pragma unroll
    for (int j = 0; j < 4; ++j) v[j] = x[begin + place(k + j)];
  }
}

// A thread of these writes four neighbours.
M5_KERNEL convert_kernel(const Region* regions, int n, std::int64_t count, const float* x,
                         bf16* y) {
  const std::int64_t i = (std::int64_t{blockIdx.x} * kThreads + threadIdx.x) * 4;
  if (i >= count) return;
  float v[4];
  load_moved<false>(regions, n, i, 0, x, v);
  store4(y + i, v);
}

M5_KERNEL add_gradient_kernel(const Region* regions, int n, std::int64_t offset, std::int64_t count,
                              std::int64_t parts, std::int64_t step, const float* x, double* sum) {
  const std::int64_t i = (std::int64_t{blockIdx.x} * kThreads + threadIdx.x) * 4;
  if (i >= count) return;
  auto* to = reinterpret_cast<Four<double>*>(sum + offset + i);
  Four<double> total = *to;
  for (std::int64_t part = 0; part < parts; ++part) {
    float v[4];
    load_moved<true>(regions, n, offset + i, offset, x + part * step, v);
#pragma unroll
    for (int j = 0; j < 4; ++j) total.v[j] += static_cast<double>(v[j]);
  }
  *to = total;
}

unsigned blocks(std::int64_t count) { return static_cast<unsigned>(ceil_div(count / 4, kThreads)); }

}  // namespace

std::vector<Region> regions_of(const ParameterTable& table, const ModelConfig& config,
                               bool by_heads) {
  std::vector<Region> regions;
  std::int64_t end = 0;  // of the last one
  const auto as_it_is = [&](std::int64_t to) {
    if (to > end) regions.push_back({end, to - end});
    end = to;
  };
  const auto of_heads = [&](std::int64_t offset, std::int64_t outer, int components,
                            std::int64_t inner) {
    as_it_is(offset);
    const std::int64_t size = outer * components * config.heads * inner;
    regions.push_back({offset, size, components, config.heads, inner});
    end = offset + size;
  };
  if (by_heads) {
    const std::int64_t d = config.dim;
    for (const LayerOffsets& at : table.layers) {
      of_heads(at.key_value, 1, kKeyDim, d);
      of_heads(at.key_value + kKeyDim * config.heads * d, 1, config.value_dim(), d);
      of_heads(at.query, 1, kKeyDim, d);
      of_heads(at.output_weight, d, config.value_dim(), 1);
    }
  }
  as_it_is(table.total);
  return regions;
}

std::int64_t operand_alignment(const ParameterTable& table) {
  std::int64_t places = 0;
  for (const ParameterSpec& spec : table.specs) {
    if (spec.offset < table.encoder) places |= spec.offset;
  }
  return places & -places;
}

void convert(Device& device, const Array<Region>& regions, std::int64_t count, const float* x,
             bf16* y) {
  device.launch("convert", convert_kernel, blocks(count), kThreads, 0, regions.data(),
                static_cast<int>(regions.size()), count, x, y);
}

void add_gradient(Device& device, const Array<Region>& regions, std::int64_t offset,
                  std::int64_t count, std::int64_t parts, std::int64_t step, const float* x,
                  double* sum) {
  device.launch("add_gradient", add_gradient_kernel, blocks(count), kThreads, 0, regions.data(),
                static_cast<int>(regions.size()), offset, count, parts, step, x, sum);
}

}  // namespace m5::kernels::cuda
