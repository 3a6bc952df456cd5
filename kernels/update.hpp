// The update of a model's parameters, on the device that its sweeps run on (Sweeps::make_update)
// or on the host (lib/train/host_update.hpp).
//
// Parameters, moments, their average and the gradient stay where the update is; a step crosses the
// waist with a few numbers. One step: clear_gradient, passes that add to the gradient,
// squared_norm, apply, average, use.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/backend.hpp"

namespace m5::kernels {

// What training changes, on the host: slabs of [ParameterTable::total].
struct ParameterState {
  std::vector<float> parameters;
  std::vector<float> first_moment, second_moment;  // empty: 0
  std::vector<float> average;  // of the parameters over the steps; empty: not kept
};

// A stretch of the slab that is updated in one way: by AdamW, or as a matrix by Muon, which keeps
// its momentum as the first moment. Stretches are disjoint.
struct UpdatePart {
  std::int64_t offset = 0, size = 0;
  bool decay = false;         // weight decay applies
  double factor = 1;          // of the learning rate
  int rows = 0, columns = 0;  // under Muon, multiples of 8; 0: AdamW
  bool muon() const { return rows > 0; }
};

// Formula: Backend::adamw. Muon heeds learning_rate, weight_decay and gradient_scale alone.
using UpdateStep = Backend<float>::AdamW;

// Muon: g = gradient_scale * gradient, m = momentum m + (1 - momentum) g, and w moves along
// U V^T of x = momentum m + (1 - momentum) g = U S V^T (Nesterov):
//   w -= learning_rate * (scale sqrt(max(rows, columns)) U V^T + weight_decay w).
// U V^T by Newton-Schulz steps on x / |x|, rows <= columns: X <- a X + (b A + c A^2) X, A = X X^T.
namespace muon {
inline constexpr double kMomentum = 0.95, kScale = 0.2;
inline constexpr int kSteps = 5;
inline constexpr float kA = 3.4445f, kB = -4.7750f, kC = 2.0315f;
}  // namespace muon

class Update {
 public:
  virtual ~Update() = default;

  // After a pass that threw, too: what it has added stays.
  virtual void clear_gradient() = 0;
  // Where the passes of a step add (Pass::head_backward): [total] on the host; null: it is with
  // the device.
  virtual double* gradient() = 0;
  // The sum of the gradient's squares, in double, in an order that is fixed. Ends the gradient: to
  // be called before apply.
  virtual double squared_norm() = 0;
  // Updates parameters and moments of all parts. False where one of them is not finite now: then
  // nothing of the state is of use.
  virtual bool apply(const UpdateStep& step) = 0;
  // average += gain * (parameters - average). Nothing where none is kept.
  virtual void average(double gain) = 0;

  // What the sweeps use from now on; to be called again after apply. Gives the values behind
  // ParameterTable::encoder, on the host, until the next call of anything.
  enum class Slab { kParameters, kAverage };
  virtual const float* use(Slab slab) = 0;

  // Makes the ParameterState that the update was made for hold what it is now, until the next
  // apply. (In between a device may empty it.)
  virtual void fetch() = 0;
};

}  // namespace m5::kernels
