#include "kernels/cuda/products.hpp"

#include <vector>

#include "kernels/cuda/rows.hpp"

namespace m5::kernels::cuda {

struct Products::Impl {
  Device& device;
};

Products::Products(Device& device, std::int64_t, bool)
    : impl_(std::make_unique<Impl>(Impl{device})) {}
Products::~Products() = default;
std::size_t Products::workspace_bytes() { return 0; }

namespace {
// c[i][j] of rows * columns, sum over k of a_ik b_jk; the strides say where.
template <class E>
float dot(const E* a, std::int64_t a_step, const E* b, std::int64_t b_step, std::int64_t count) {
  float sum = 0;
  for (std::int64_t k = 0; k < count; ++k) sum += to_float(a[k * a_step]) * to_float(b[k * b_step]);
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
  forward(n, in, out, x, w, nullptr, nullptr, y);
  gelu(impl_->device, n, out, y, bias, keep, y);
}

template <class E>
void Products::backward_input(std::int64_t n, int in, int out, const E* dy, const E* w,
                              Maybe<E> keep, E* dx, bool add) {
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
  impl_->device.queue([=] {
    for (std::int64_t o = 0; o < out; ++o) {
      for (std::int64_t k = 0; k < in; ++k) dw[o * in + k] += dot(dy + o, out, x + k, in, n);
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
