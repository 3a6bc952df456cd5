#include "kernels/cases.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/math/minimax.hpp"
#include "kernels/math/monomials.hpp"

namespace m5::kernels {
namespace {

constexpr std::int64_t kFence = 64;  // bytes before and after an array
constexpr std::uint8_t kFenceByte = 0xA5;

std::uint64_t hash(std::uint64_t x) {  // splitmix64
  x += 0x9E3779B97F4A7C15u;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

std::uint64_t hash(const std::string& text) {
  std::uint64_t value = 0;
  for (char c : text) value = hash(value + static_cast<unsigned char>(c));
  return value;
}

double to_bf16(double x) {
  auto bits = std::bit_cast<std::uint32_t>(static_cast<float>(x));
  bits += 0x7FFF + ((bits >> 16) & 1);
  return std::bit_cast<float>(bits & 0xFFFF0000u);
}

std::size_t element_size(const Slot& slot, std::size_t real) {
  if (slot.fill == Fill::kTokens) return 1;
  return slot.wide ? sizeof(double) : real;
}

double first_value(const Slot& slot, std::uint64_t seed, std::int64_t i) {
  const std::uint64_t bits = hash(seed + static_cast<std::uint64_t>(i));
  switch (slot.fill) {
    case Fill::kUniform: {
      const double uniform = static_cast<double>(bits >> 11) * 0x1p-53;
      return static_cast<float>((2 * uniform - 1) * std::sqrt(3.0) * slot.scale);
    }
    case Fill::kTokens:
      return static_cast<double>(bits % 7);
    case Fill::kNan:
    case Fill::kDerived:
      break;
  }
  return std::numeric_limits<double>::quiet_NaN();
}

}  // namespace

Values initial_values(const Case& c, Rounding rounding) {
  Values values;
  for (const Slot& slot : c.slots) {
    const std::uint64_t seed = hash(c.operation + slot.name);
    std::vector<double>& v = values.emplace_back(static_cast<std::size_t>(slot.count));
    for (std::int64_t i = 0; i < slot.count; ++i) {
      const double first = first_value(slot, seed, i);
      const bool rounded = rounding == Rounding::kAllBf16 && !slot.wide;
      v[static_cast<std::size_t>(i)] = rounded ? to_bf16(first) : first;
    }
  }
  if (c.derive) {
    const auto ref = make_ref_backend<double>();
    Memory<double> memory(c, *ref, values);
    c.derive(*ref, memory);
    for (std::size_t s = 0; s < values.size(); ++s) values[s] = memory.values(static_cast<int>(s));
  }
  for (std::size_t s = 0; s < values.size(); ++s) {
    for (double& v : values[s]) {
      if (rounding != Rounding::kNone && !c.slots[s].wide) v = static_cast<float>(v);
      if (rounding == Rounding::kBf16 && c.slots[s].bf16_operand) v = to_bf16(v);
    }
  }
  return values;
}

template <class T>
Memory<T>::Memory(const Case& c, Backend<T>& backend, const Values& values, int misalign)
    : slots_(&c.slots) {
  for (std::size_t s = 0; s < c.slots.size(); ++s) {
    const std::size_t element = element_size(c.slots[s], sizeof(T));
    const std::size_t begin = kFence + static_cast<std::size_t>(misalign) * element;
    const std::size_t bytes = static_cast<std::size_t>(c.slots[s].count) * element;
    const std::size_t slack = static_cast<std::size_t>(c.slots[s].slack) * element;
    buffers_.emplace_back(backend, begin + bytes + slack + kFence);
    std::memset(buffers_[s].data(), kFenceByte, buffers_[s].size());
    std::memset(buffers_[s].data() + begin + bytes, 0xFF, slack);  // NaN
    data_.push_back(buffers_[s].data() + begin);
    for (std::int64_t i = 0; i < c.slots[s].count; ++i) {
      set(static_cast<int>(s), i, values[s][static_cast<std::size_t>(i)]);
    }
  }
}

template <class T>
void Memory<T>::set(int slot, std::int64_t i, double value) {
  const Slot& s = (*slots_)[static_cast<std::size_t>(slot)];
  if (s.fill == Fill::kTokens) {
    bytes(slot)[i] = static_cast<std::uint8_t>(value);
  } else if (s.wide) {
    wide(slot)[i] = value;
  } else {
    real(slot)[i] = static_cast<T>(value);
  }
}

template <class T>
std::vector<double> Memory<T>::values(int slot) const {
  const Slot& s = (*slots_)[static_cast<std::size_t>(slot)];
  const void* data = data_[static_cast<std::size_t>(slot)];
  if (s.fill == Fill::kTokens) {
    const auto* p = static_cast<const std::uint8_t*>(data);
    return {p, p + s.count};
  }
  if (s.wide) {
    const auto* p = static_cast<const double*>(data);
    return {p, p + s.count};
  }
  const auto* p = static_cast<const T*>(data);
  return {p, p + s.count};
}

template <class T>
bool Memory<T>::fences_stand() const {
  for (std::size_t s = 0; s < data_.size(); ++s) {
    const std::uint8_t* begin = buffers_[s].data();
    const std::uint8_t* end = begin + buffers_[s].size();
    const auto* data = static_cast<const std::uint8_t*>(data_[s]);
    const auto stands = [](std::uint8_t b) { return b == kFenceByte; };
    if (!std::all_of(begin, data, stands) || !std::all_of(end - kFence, end, stands)) return false;
  }
  return true;
}

AttentionShape make_attention_shape(int heads, int value_dim, int order, double bound) {
  AttentionShape shape;
  shape.heads = heads;
  shape.value_dim = value_dim;
  shape.order = order;
  shape.bound = bound;
  shape.features = static_cast<int>(monomials(order).size());
  shape.polynomial = minimax_exp(order, bound);
  shape.weights = feature_weights(shape.polynomial);
  return shape;
}

template class Memory<float>;
template class Memory<double>;

}  // namespace m5::kernels
