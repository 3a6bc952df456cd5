#include "kernels/cuda/products.hpp"

#include <initializer_list>
#include <string>

#include "kernels/cuda/emulation/tensor_core.hpp"
#include "kernels/cuda/rows.hpp"
#include "m5/error.hpp"

namespace m5::kernels::cuda {

struct Products::Impl {
  // What cuBLASLt is promised of the pointers.
  void require_aligned(int in, int out, std::initializer_list<const void*> pointers) const {
    const auto bytes = static_cast<std::uintptr_t>(product_alignment(in, out, aligned));
    for (const void* p : pointers) {
      if (reinterpret_cast<std::uintptr_t>(p) % bytes == 0) continue;
      throw Error(ErrorKind::kInternal, "a pointer of a product of " + std::to_string(in) + " to " +
                                            std::to_string(out) + " columns is not aligned to " +
                                            std::to_string(bytes) + " bytes");
    }
  }

  Device& device;
  const std::int64_t aligned;
};

Products::Products(Device& device, std::int64_t, bool, std::int64_t aligned)
    : impl_(std::make_unique<Impl>(Impl{device, aligned})) {}
Products::~Products() = default;
std::size_t Products::workspace_bytes() { return 0; }

namespace {
// The sum over k of a_k b_k, which lie a_step and b_step apart: of bf16 by tensor cores.
template <class E>
float dot(const E* a, std::int64_t a_step, const E* b, std::int64_t b_step, std::int64_t count) {
  float sum = 0;
  if constexpr (std::is_same_v<E, bf16>) {
    for (std::int64_t first = 0; first < count; first += 16) {
      float of_a[16] = {}, of_b[16] = {};
      for (std::int64_t k = 0; k < std::min<std::int64_t>(16, count - first); ++k) {
        of_a[k] = to_float(a[(first + k) * a_step]);
        of_b[k] = to_float(b[(first + k) * b_step]);
      }
      sum = emulation::add_products(sum, of_a, of_b);
    }
  } else {
    for (std::int64_t k = 0; k < count; ++k) sum += a[k * a_step] * b[k * b_step];
  }
  return sum;
}
}  // namespace

template <class E>
void Products::forward(std::int64_t n, int in, int out, const E* x, const E* w, Maybe<E> bias,
                       Maybe<E> add, E* y) {
  impl_->device.queue([=] {
    for (std::int64_t i = 0; i < n; ++i) {
      for (std::int64_t o = 0; o < out; ++o) {
        float sum = dot(x + i * in, 1, w + o * in, 1, in);
        if (bias) sum += to_float(bias[o]);
        if (add) sum += to_float(add[i * out + o]);
        y[i * out + o] = from_float<E>(sum);
      }
    }
  });
}

// As products.cu does where there is no epilogue of the library: a kernel behind the product.
template <class E>
void Products::forward_gelu(std::int64_t n, int in, int out, const E* x, const E* w, const E* bias,
                            std::type_identity_t<E>* keep, E* y) {
  impl_->require_aligned(in, out, {bias, keep});
  forward(n, in, out, x, w, nullptr, nullptr, y);
  gelu(impl_->device, n, out, y, bias, keep, y);
}

template <class E>
void Products::backward_input(std::int64_t n, int in, int out, const E* dy, const E* w,
                              Maybe<E> keep, E* dx, bool add) {
  impl_->require_aligned(in, out, {dy, w, keep, dx});
  impl_->device.queue([=] {
    for (std::int64_t i = 0; i < n; ++i) {
      for (std::int64_t k = 0; k < in; ++k) {
        E& to = dx[i * in + k];
        const float before = add ? to_float(to) : 0.0f;
        to = from_float<E>(before + dot(dy + i * out, 1, w + k, in, out));
      }
    }
  });
  if (keep) gelu_backward(impl_->device, n * in, keep, dx, dx);
}

template <class E>
void Products::backward_weight(std::int64_t n, int in, int out, const E* x, const E* dy,
                               float* dw) {
  impl_->require_aligned(in, out, {x, dy, dw});
  impl_->device.queue([=] {
    for (std::int64_t part = 0; part < product_parts<E>(n); ++part) {
      const std::int64_t row = part * kProductRows<E>;
      const std::int64_t rows = std::min(kProductRows<E>, n - row);
      float* const to = dw + part * in * out;
      for (std::int64_t o = 0; o < out; ++o) {
        for (std::int64_t k = 0; k < in; ++k) {
          to[o * in + k] = dot(dy + row * out + o, out, x + row * in + k, in, rows);
        }
      }
    }
  });
}

// NOLINTBEGIN(bugprone-macro-parentheses): types
#define M5_INSTANTIATE(E)                                                                         \
  template void Products::forward<E>(std::int64_t, int, int, const E*, const E*, const E*,        \
                                     const E*, E*);                                               \
  template void Products::forward_gelu<E>(std::int64_t, int, int, const E*, const E*, const E*,   \
                                          E*, E*);                                                \
  template void Products::backward_input<E>(std::int64_t, int, int, const E*, const E*, const E*, \
                                            E*, bool);                                            \
  template void Products::backward_weight<E>(std::int64_t, int, int, const E*, const E*, float*);
M5_INSTANTIATE(float)
M5_INSTANTIATE(bf16)
#undef M5_INSTANTIATE
// NOLINTEND(bugprone-macro-parentheses)

}  // namespace m5::kernels::cuda
