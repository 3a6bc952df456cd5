// Muon on the host: a matrix moves along the nearest orthogonal matrix of its momentum, so that
// every direction in it moves as far (Jordan et al. 2024, github.com/KellerJordan/Muon; scale of
// Liu et al. 2025, arXiv:2502.16982).
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "kernels/update.hpp"

namespace m5 {

// W[rows][columns]; both multiples of 8.
struct MatrixShape {
  int rows = 0, columns = 0;
  bool operator==(const MatrixShape&) const = default;
  bool operator<(const MatrixShape& o) const {
    return std::pair(rows, columns) < std::pair(o.rows, o.columns);
  }
};

class Muon {
 public:
  // For matrices of these shapes; the backend must outlive it.
  Muon(kernels::Backend<float>& backend, const std::vector<MatrixShape>& shapes);
  ~Muon();

  struct Step {
    double learning_rate, weight_decay, gradient_scale;
  };
  // m, the momentum, and w are updated in place from the gradient; the update has a root mean
  // square of about 0.2 learning_rate, what AdamW's has. Workers may run it at the same time.
  void update(int worker, MatrixShape shape, const Step& step, const double* gradient, float* m,
              float* w);

  // U V^T of x = U S V^T, about: five steps of a quintic Newton-Schulz iteration leave singular
  // values of 0.7 to 1.2 (those below a thousandth of the norm of x less). In place.
  void orthogonalise(int worker, MatrixShape shape, std::vector<float>& x);

  // Bytes for one worker.
  static std::int64_t memory_needed(const std::vector<MatrixShape>& shapes);

 private:
  struct Workspace;
  kernels::Backend<float>& backend_;
  // Of each worker, by shape with rows <= columns.
  std::vector<std::map<MatrixShape, std::unique_ptr<Workspace>>> workspaces_;
};

}  // namespace m5
