#include "train/muon.hpp"

#include <algorithm>
#include <cmath>
#include <set>

namespace m5 {
namespace {

using kernels::muon::kA;
using kernels::muon::kB;
using kernels::muon::kC;
using kernels::muon::kMomentum;
using kernels::muon::kScale;
using kernels::muon::kSteps;

MatrixShape wide(MatrixShape shape) {
  return {std::min(shape.rows, shape.columns), std::max(shape.rows, shape.columns)};
}

// Elements of `rows` rows, as the products want them.
std::size_t padded(int rows, int columns) {
  const int step = kernels::kRowStep;
  return static_cast<std::size_t>((rows + step - 1) / step * step) *
         static_cast<std::size_t>(columns);
}

std::size_t count(MatrixShape shape) {
  return static_cast<std::size_t>(shape.rows) * static_cast<std::size_t>(shape.columns);
}

}  // namespace

struct Muon::Workspace {
  Workspace(kernels::Backend<float>& backend, MatrixShape s)
      : x(padded(s.rows, s.columns)),
        product(x.size()),
        gram(padded(s.rows, s.rows)),
        square(gram.size()),
        by_x(backend.make_linear(s.columns, s.rows, kernels::Backend<float>::kForwardAndBackward)),
        by_gram(backend.make_linear(s.rows, s.rows, kernels::Backend<float>::kForward)) {}

  std::vector<float> x, product;    // [rows][columns]
  std::vector<float> gram, square;  // [rows][rows]
  std::unique_ptr<kernels::Linear<float>> by_x, by_gram;
};

Muon::Muon(kernels::Backend<float>& backend, const std::vector<MatrixShape>& shapes)
    : backend_(backend), workspaces_(static_cast<std::size_t>(backend.workers())) {
  for (auto& of_worker : workspaces_) {
    for (const MatrixShape& shape : shapes) {
      auto& workspace = of_worker[wide(shape)];
      if (!workspace) workspace = std::make_unique<Workspace>(backend, wide(shape));
    }
  }
}

Muon::~Muon() = default;

std::int64_t Muon::memory_needed(const std::vector<MatrixShape>& shapes) {
  std::set<MatrixShape> distinct;
  for (const MatrixShape& shape : shapes) distinct.insert(wide(shape));
  std::size_t floats = 0, largest = 0;
  for (const MatrixShape& s : distinct) {
    // x, its product and the two packed forms of it; the square matrices and a packed one.
    floats += 4 * padded(s.rows, s.columns) + 3 * padded(s.rows, s.rows);
    largest = std::max(largest, count(s));
  }
  return static_cast<std::int64_t>((floats + largest) * sizeof(float));
}

void Muon::orthogonalise(int worker, MatrixShape shape, std::vector<float>& x) {
  using Backend = kernels::Backend<float>;
  const MatrixShape s = wide(shape);
  Workspace& work = *workspaces_[static_cast<std::size_t>(worker)].at(s);
  double squares = 0;
  for (const float value : x) squares += static_cast<double>(value) * value;
  const double norm = std::sqrt(squares);
  const double inverse = norm > 0 ? 1 / norm : 0;
  const bool turned = s != shape;
  const auto rows = static_cast<std::size_t>(s.rows), columns = static_cast<std::size_t>(s.columns);
  for (std::size_t i = 0; i < rows; ++i) {
    for (std::size_t j = 0; j < columns; ++j) {
      const float value = turned ? x[j * rows + i] : x[i * columns + j];
      work.x[i * columns + j] = static_cast<float>(value * inverse);
    }
  }
  for (int step = 0; step < kSteps; ++step) {
    // X <- a X + (b A + c A^2) X, A = X X^T.
    backend_.pack(*work.by_x, work.x.data(), nullptr);
    backend_.linear(worker, *work.by_x, s.rows, work.x.data(), work.gram.data(),
                    Backend::Then::kStore);
    backend_.pack(*work.by_gram, work.gram.data(), nullptr);
    backend_.linear(worker, *work.by_gram, s.rows, work.gram.data(), work.square.data(),
                    Backend::Then::kStore);
    for (std::size_t i = 0; i < rows * rows; ++i) {
      work.gram[i] = kB * work.gram[i] + kC * work.square[i];
    }
    backend_.linear_backward_input(worker, *work.by_x, s.rows, work.gram.data(),
                                   work.product.data(), false);
    for (std::size_t i = 0; i < rows * columns; ++i) {
      work.x[i] = kA * work.x[i] + work.product[i];
    }
  }
  for (std::size_t i = 0; i < rows; ++i) {
    for (std::size_t j = 0; j < columns; ++j) {
      (turned ? x[j * rows + i] : x[i * columns + j]) = work.x[i * columns + j];
    }
  }
}

void Muon::update(int worker, MatrixShape shape, const Step& step, const double* gradient, float* m,
                  float* w) {
  const std::size_t n = count(shape);
  std::vector<float> x(n);
  for (std::size_t i = 0; i < n; ++i) {
    const double g = gradient[i] * step.gradient_scale;
    const double mi = kMomentum * static_cast<double>(m[i]) + (1 - kMomentum) * g;
    m[i] = static_cast<float>(mi);
    x[i] = static_cast<float>(kMomentum * mi + (1 - kMomentum) * g);  // Nesterov
  }
  orthogonalise(worker, shape, x);
  const double move = kScale * std::sqrt(static_cast<double>(std::max(shape.rows, shape.columns)));
  for (std::size_t i = 0; i < n; ++i) {
    const double wi = w[i];
    w[i] = static_cast<float>(wi - step.learning_rate *
                                       (move * static_cast<double>(x[i]) + step.weight_decay * wi));
  }
}

}  // namespace m5
