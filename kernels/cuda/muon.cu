#include "kernels/cuda/muon.hpp"

#include <cmath>

#include "kernels/cuda/optimizer.hpp"

namespace m5::kernels::cuda {
namespace {

constexpr int kThreads = 256;

M5_DEVICE std::int64_t index() { return std::int64_t{blockIdx.x} * kThreads + threadIdx.x; }

// X of Newton-Schulz has rows <= columns: the matrix, or its transpose.
struct Turn {
  std::int64_t rows, columns;  // of X
  int turned;
  // Where number i of X is in the matrix.
  M5_DEVICE std::int64_t operator()(std::int64_t i) const {
    return turned ? i % columns * rows + i / columns : i;
  }
};

M5_KERNEL momentum_kernel(std::int64_t count, double scale, const double* gradient, float* m,
                          float* x, int* not_finite) {
  const std::int64_t i = index();
  if (i >= count) return;
  const double g = gradient[i] * scale;
  const double mi = muon::kMomentum * static_cast<double>(m[i]) + (1 - muon::kMomentum) * g;
  m[i] = static_cast<float>(mi);
  x[i] = static_cast<float>(muon::kMomentum * mi + (1 - muon::kMomentum) * g);
  if (!is_finite(m[i])) *not_finite = 1;
}

M5_KERNEL normalise_kernel(Turn turn, const double* squares, const float* matrix, float* x) {
  const std::int64_t i = index();
  if (i >= turn.rows * turn.columns) return;
  const double norm = sqrt(*squares);
  const double inverse = norm > 0 ? 1 / norm : 0;
  x[i] = static_cast<float>(static_cast<double>(matrix[turn(i)]) * inverse);
}

// x = a x + b y.
M5_KERNEL blend_kernel(std::int64_t count, float a, float* x, float b, const float* y) {
  const std::int64_t i = index();
  if (i < count) x[i] = a * x[i] + b * y[i];
}

M5_KERNEL move_kernel(Turn turn, double rate, double move, double decay, const float* x, float* w,
                      int* not_finite) {
  const std::int64_t i = index();
  if (i >= turn.rows * turn.columns) return;
  float& to = w[turn(i)];
  const auto wi = static_cast<double>(to);
  to = static_cast<float>(wi - rate * (move * static_cast<double>(x[i]) + decay * wi));
  if (!is_finite(to)) *not_finite = 1;
}

unsigned blocks(std::int64_t count) { return static_cast<unsigned>(ceil_div(count, kThreads)); }

}  // namespace

void muon_update(Device& device, MuonMemory& memory, const UpdatePart& part, const UpdateStep& step,
                 const double* gradient, float* m, float* w, double* partial, int* not_finite) {
  const int rows = std::min(part.rows, part.columns), columns = std::max(part.rows, part.columns);
  const Turn turn{rows, columns, rows != part.rows};
  const std::int64_t n = part.size, square = std::int64_t{rows} * rows;
  Products& products = *memory.products;
  float *x = memory.x.data(), *product = memory.product.data(), *gram = memory.gram.data();
  device.launch("muon_momentum", momentum_kernel, blocks(n), kThreads, 0, n, step.gradient_scale,
                gradient, m, product, not_finite);
  squared_norm(device, n, product, partial, memory.norm.data());
  device.launch("muon_normalise", normalise_kernel, blocks(n), kThreads, 0, turn,
                memory.norm.data(), product, x);
  for (int i = 0; i < muon::kSteps; ++i) {
    products.forward<float>(rows, columns, rows, x, x, nullptr, nullptr, gram);
    // The gram matrix is its own transpose.
    products.forward<float>(rows, rows, rows, gram, gram, nullptr, nullptr, memory.square.data());
    device.launch("muon_blend", blend_kernel, blocks(square), kThreads, 0, square, muon::kB, gram,
                  muon::kC, memory.square.data());
    products.backward_input<float>(rows, columns, rows, gram, x, nullptr, product);
    device.launch("muon_blend", blend_kernel, blocks(n), kThreads, 0, n, muon::kA, x, 1.0f,
                  product);
  }
  const double move =
      muon::kScale * std::sqrt(static_cast<double>(std::max(part.rows, part.columns)));
  device.launch("muon_move", move_kernel, blocks(n), kThreads, 0, turn,
                step.learning_rate * part.factor, move, part.decay ? step.weight_decay : 0.0, x, w,
                not_finite);
}

}  // namespace m5::kernels::cuda
