// Muon: the orthogonalisation against factors that are known, the update against its formula.
#include "train/muon.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "base/random.hpp"

namespace m5 {
namespace {

using Matrix = std::vector<std::vector<double>>;  // of columns

// `count` orthonormal columns of `size` elements.
Matrix orthonormal(int size, int count, std::uint64_t seed) {
  Matrix columns;
  for (int c = 0; c < count; ++c) {
    std::vector<double> column;
    for (int i = 0; i < size; ++i) {
      column.push_back(normal(seed, static_cast<std::uint64_t>(c * size + i)));
    }
    for (int twice = 0; twice < 2; ++twice) {
      for (const auto& other : columns) {
        double dot = 0;
        for (std::size_t i = 0; i < column.size(); ++i) dot += column[i] * other[i];
        for (std::size_t i = 0; i < column.size(); ++i) column[i] -= dot * other[i];
      }
    }
    double squares = 0;
    for (const double value : column) squares += value * value;
    for (double& value : column) value /= std::sqrt(squares);
    columns.push_back(column);
  }
  return columns;
}

const MatrixShape kShapes[] = {{64, 128}, {128, 64}, {128, 128}, {8, 8}, {32, 16}, {16, 520}};

std::vector<std::unique_ptr<kernels::Backend<float>>> backends() {
  std::vector<std::unique_ptr<kernels::Backend<float>>> all;
  all.push_back(kernels::make_ref_backend<float>());
  all.push_back(kernels::make_cpu_backend({.threads = 1}));
  return all;
}

// x = U S V^T gives U f(S) V^T with f(S) about 1.
TEST(Muon, OrthogonalisesMatricesOfKnownSingularValues) {
  for (const auto& backend : backends()) {
    Muon muon(*backend, {std::begin(kShapes), std::end(kShapes)});
    for (const auto& [rows, columns] : kShapes) {
      const int rank = std::min(rows, columns);
      const Matrix u = orthonormal(rows, rank, 1), v = orthonormal(columns, rank, 2);
      const auto at = [n = columns](int i, int j) { return static_cast<std::size_t>(i * n + j); };
      std::vector<float> x(static_cast<std::size_t>(rows * columns));
      for (int r = 0; r < rank; ++r) {
        const auto k = static_cast<std::size_t>(r);
        const double singular = 1000 * (0.1 + 0.9 * r / rank);
        for (int i = 0; i < rows; ++i) {
          for (int j = 0; j < columns; ++j) {
            x[at(i, j)] += static_cast<float>(singular * u[k][static_cast<std::size_t>(i)] *
                                              v[k][static_cast<std::size_t>(j)]);
          }
        }
      }
      muon.orthogonalise(0, {rows, columns}, x);
      for (std::size_t a = 0; a < static_cast<std::size_t>(rank); ++a) {
        std::vector<double> row(static_cast<std::size_t>(columns));  // u_a^T x
        for (int i = 0; i < rows; ++i) {
          for (int j = 0; j < columns; ++j) {
            row[static_cast<std::size_t>(j)] += u[a][static_cast<std::size_t>(i)] * x[at(i, j)];
          }
        }
        for (std::size_t b = 0; b < static_cast<std::size_t>(rank); ++b) {
          double value = 0;
          for (std::size_t j = 0; j < row.size(); ++j) value += row[j] * v[b][j];
          if (a == b) {
            ASSERT_GT(value, 0.6) << rows << " x " << columns;
            ASSERT_LT(value, 1.25) << rows << " x " << columns;
          } else {
            ASSERT_NEAR(value, 0, 0.01) << rows << " x " << columns;
          }
        }
      }
    }
  }
}

TEST(Muon, UpdatesByNesterovMomentumScaleAndDecay) {
  const MatrixShape shape{16, 32};
  constexpr std::size_t kSize = 16 * 32;
  for (const auto& backend : backends()) {
    Muon muon(*backend, {shape});
    std::vector<float> w(kSize), m(kSize);
    for (std::size_t i = 0; i < kSize; ++i) w[i] = static_cast<float>(normal(3, i));
    std::vector<double> momentum(kSize);
    for (std::uint64_t step = 0; step < 3; ++step) {
      std::vector<double> gradient(kSize);
      std::vector<float> direction(kSize);
      for (std::size_t i = 0; i < kSize; ++i) {
        gradient[i] = 8 * normal(10 + step, i);
        momentum[i] = 0.95 * momentum[i] + 0.05 * gradient[i] / 4;
        direction[i] = static_cast<float>(0.95 * momentum[i] + 0.05 * gradient[i] / 4);
      }
      muon.orthogonalise(0, shape, direction);
      const std::vector<float> before = w;
      muon.update(0, shape, {.learning_rate = 0.1, .weight_decay = 0.5, .gradient_scale = 0.25},
                  gradient.data(), m.data(), w.data());
      double squares = 0;
      for (std::size_t i = 0; i < kSize; ++i) {
        ASSERT_NEAR(m[i], momentum[i], 1e-6);
        const double move = 0.2 * std::sqrt(32.0) * direction[i];
        ASSERT_NEAR(w[i], before[i] - 0.1 * (move + 0.5 * before[i]), 1e-5);
        squares += move * move;
      }
      EXPECT_NEAR(std::sqrt(squares / kSize), 0.2, 0.05);
    }
  }
}

TEST(Muon, OfNoGradientIsNoMove) {
  const MatrixShape shape{8, 16};
  for (const auto& backend : backends()) {
    Muon muon(*backend, {shape});
    const std::vector<double> gradient(128);
    std::vector<float> w(128, 1), m(128);
    muon.update(0, shape, {1, 0, 1}, gradient.data(), m.data(), w.data());
    EXPECT_EQ(w, std::vector<float>(128, 1));
  }
}

}  // namespace
}  // namespace m5
