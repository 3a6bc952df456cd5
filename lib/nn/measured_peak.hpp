// What the CPU can do at most, measured: the denominator of every "share of peak".
//
// The peak is the best rate of oneDNN's matrix product with packed weights, one single-threaded
// call per worker thread at the same time, over the shapes of a model and one product that stays in
// the cache. It is measured in the run that uses it, because clock rates and neighbours change.
#pragma once

#include <memory>
#include <vector>

#include "m5/config.hpp"

namespace m5 {

class MeasuredPeak {
 public:
  struct Shape {
    int rows = 0, in = 0, out = 0;  // y[rows][out] = x[rows][in] W[in][out]
  };

  // bf16: bf16 operands, fp32 sums and results. Throws Error(kResource) if oneDNN cannot do it
  // here.
  MeasuredPeak(int threads, bool bf16, const std::vector<Shape>& shapes);
  ~MeasuredPeak();
  MeasuredPeak(const MeasuredPeak&) = delete;
  MeasuredPeak& operator=(const MeasuredPeak&) = delete;

  // Time of the wall, or of the CPU as each thread got it: on a machine that others use too, wall
  // time belongs with work that is measured by wall time, and CPU time likewise.
  enum class Time { kWall, kThreadCpu };
  static double now(Time time);  // seconds, of the calling thread

  // One burst of `seconds` for every shape on all threads at once. Returns the best rate of this
  // burst in GFLOP/s, all threads together; best() keeps the best of all bursts.
  double measure(double seconds, Time time = Time::kWall);
  double best() const { return best_; }  // GFLOP/s; 0 before measure
  Shape best_shape() const { return best_shape_; }

  // The products of a model on blocks of `rows` rows, then 1024 x 256 x 1024.
  static std::vector<Shape> shapes_of(const ModelConfig& config, int rows);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
  double best_ = 0;
  Shape best_shape_;
};

// Floating-point operations a nucleotide costs: the convention of every nt/s-to-FLOP figure of m5.
// A multiply and an add are two. Embedding, norms, gelu, output head and the monomials themselves
// are not counted. Per layer:
//
//   key half    K = 2 d (4 + dv) H,  attention U = 2 F (dv + 1) H,  convolution C = 2 width d
//   query half  Q = 2 d 4H + 2 d d + 4 d ff,  attention U
//   (K + Q = 22 d^2 with ff = 4 d and d = dv H, dv = 8)
//   forward  = K + U + C + Q + U
//   training = 4 K + 3 U + 3 C  +  4 Q - 2 d ff + 4 U: forward, recomputation of the layer in the
//              backward pass (but for the convolution, the second product of the feed-forward and
//              the attention states, which are kept), gradients to inputs and to weights.
//
// The query half of the last layer only runs on the rows that are asked about, and is not
// recomputed: asked (Q + U) forward, asked (3 Q + 3 U) in training, `asked` being their share of
// all rows.
double forward_flops_per_nt(const ModelConfig& config, double asked = 1);
double training_flops_per_nt(const ModelConfig& config, double asked);

}  // namespace m5
