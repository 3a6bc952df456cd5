// The cpu backend: worker threads over tiles, oneDNN for the linear layers, Highway for the rest.

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "base/thread_pool.hpp"
#include "kernels/backend.hpp"
#include "kernels/cpu/bf16.hpp"
#include "kernels/cpu/blocks.hpp"
#include "kernels/cpu/cache.hpp"
#include "kernels/cpu/onednn.hpp"
#include "kernels/cpu/simd.hpp"
#include "m5/error.hpp"

namespace m5::kernels {
namespace {

void heed_forced_isa() {
  if (const char* isa = std::getenv("M5_CPU_ISA"); isa && *isa) {
    simd::force_isa(isa);
    cap_onednn_isa(simd::chosen_isa());
  }
}

class CpuBackend final : public Backend<float> {
 public:
  explicit CpuBackend(const CpuOptions& options)
      : pool_(options.threads),
        scratch_(static_cast<std::size_t>(options.threads)),
        bf16_(options.bf16) {
    heed_forced_isa();
  }

  std::string name() const override {
    return "cpu " + simd::chosen_isa() + (bf16_ ? ", bf16" : ", fp32");
  }
  int workers() const override { return pool_.size(); }
  int preferred_block_rows(std::int64_t row_bytes) const override {
    return block_rows_for(level2_cache_bytes(), row_bytes);
  }
  // Where the CPU has no products of bf16, these are of rounded fp32 values.
  int operand_bytes() const override { return !bf16_ ? 0 : onednn_has_native_bf16() ? 2 : 4; }

  void for_tiles(std::int64_t tiles, const std::function<void(int, std::int64_t)>& work) override {
    pool_.run(tiles, [&](int worker, std::int64_t tile) {
      const OneThread alone;
      work(worker, tile);
    });
  }

  void* allocate(std::size_t bytes) override { return blocks_.take(bytes); }
  void release(void* memory) noexcept override { blocks_.give_back(memory); }

  std::unique_ptr<Linear<float>> make_linear(int in, int out, LinearUse use) override {
    return std::make_unique<OneDnnLinear>(in, out, use == kForwardAndBackward, bf16_);
  }
  void pack(Linear<float>& linear, const float* weight, const float* bias) override {
    static_cast<OneDnnLinear&>(linear).pack(weight, bias);
  }
  void linear(int, const Linear<float>& linear, int n, const float* x, float* y,
              Then then) override {
    static_cast<const OneDnnLinear&>(linear).forward(n, x, y, then);
  }
  void linear_backward_input(int, const Linear<float>& linear, int n, const float* dy, float* dx,
                             bool add) override {
    static_cast<const OneDnnLinear&>(linear).backward_input(n, dy, dx, add);
  }
  void linear_backward_weight(int, int in, int out, int n, const float* x, const float* dy,
                              float* d_weight, float* d_bias) override {
    // By runs, so that the sums do not depend on the size of the blocks.
    for (int start = 0; start < n; start += kRunRows) {
      add_outer_product(in, out, std::min(kRunRows, n - start),
                        x + static_cast<std::int64_t>(start) * in,
                        dy + static_cast<std::int64_t>(start) * out, d_weight, bf16_);
    }
    if (d_bias) simd::add_column_sums(n, out, dy, d_bias);
  }

  void embed(int, int n, int dim, int w, const std::uint8_t* window, const float* table,
             const float* bias, float* x) override {
    simd::embed(n, dim, w, window, table, bias, x);
  }
  void embed_backward(int, int n, int dim, int w, const std::uint8_t* window, const float* dx,
                      float* d_table, float* d_bias) override {
    simd::embed_backward(n, dim, w, window, dx, d_table, d_bias);
  }
  void norm(int, int n, int dim, double epsilon, const float* x, const float* gain,
            float* y) override {
    simd::norm(n, dim, static_cast<float>(epsilon), x, gain, y);
  }
  void norm_backward(int, int n, int dim, double epsilon, const float* x, const float* gain,
                     const float* dy, float* dx, float* d_gain) override {
    simd::norm_backward(n, dim, static_cast<float>(epsilon), x, gain, dy, dx, d_gain);
  }
  void to_bf16(std::int64_t count, const float* x, std::uint16_t* y) override {
    std::transform(x, x + count, y, bf16_bits);
  }
  void from_bf16(std::int64_t count, const std::uint16_t* x, float* y) override {
    std::transform(x, x + count, y, bf16_value);
  }
  void gelu(int, std::int64_t count, const float* x, float* y) override { simd::gelu(count, x, y); }
  void gelu_backward(int, std::int64_t count, const float* x, const float* dy, float* dx) override {
    simd::gelu_backward(count, x, dy, dx);
  }
  void local_conv(int, int n, int dim, int width, int dilation, const float* window,
                  const float* weight, bool flip, float* y) override {
    simd::local_conv(n, dim, width, dilation, window, weight, flip, y);
  }
  void local_conv_backward_weight(int, int n, int dim, int width, int dilation, const float* window,
                                  const float* dy, float* d_weight) override {
    simd::local_conv_backward_weight(n, dim, width, dilation, window, dy, d_weight);
  }

  void bound(int, const AttentionShape& shape, int n, std::int64_t stride, const float* z,
             float* bounded) override {
    simd::bound(shape, n, stride, z, bounded);
  }
  void bound_backward(int, const AttentionShape& shape, int n, std::int64_t stride, const float* z,
                      const float* d_bounded, float* dz) override {
    simd::bound_backward(shape, n, stride, z, d_bounded, dz);
  }
  void attention_accumulate(int worker, const AttentionShape& shape, int n, const float* z,
                            std::int64_t z_stride, const float* u, std::int64_t u_stride,
                            bool unit_column, double* state) override {
    simd::accumulate(scratch(worker), shape, n, z, z_stride, u, u_stride, unit_column, state);
  }
  void attention_scale(const AttentionShape& shape, const double* state, float* scaled) override {
    const std::vector<double>& weights = shape.weights;
    const std::int64_t size = static_cast<std::int64_t>(shape.columns()) * shape.heads;
    for (std::size_t f = 0; f < weights.size(); ++f) {
      for (std::int64_t i = 0; i < size; ++i) {
        *scaled++ = static_cast<float>(weights[f] * *state++);
      }
    }
  }
  void attention_query(int worker, const AttentionShape& shape, int n, const float* q,
                       std::int64_t q_stride, const float* scaled, float* o,
                       float* weight_sum) override {
    // u [n][(dv+1) H] of a few rows at a time, so that it stays in cache.
    const std::int64_t row = static_cast<std::int64_t>(shape.columns()) * shape.heads;
    Scratch& s = scratch_[static_cast<std::size_t>(worker)];
    float* u = s.u.floats(static_cast<std::size_t>(kRunRows * row));
    for (int start = 0; start < n; start += kRunRows) {
      const int rows = std::min(kRunRows, n - start);
      simd::apply(s.tables, shape, rows, q + start * q_stride, q_stride, scaled, shape.columns(), u,
                  row);
      simd::divide(shape, rows, u,
                   o + static_cast<std::int64_t>(start) * shape.value_dim * shape.heads,
                   weight_sum + static_cast<std::int64_t>(start) * shape.heads);
    }
  }
  void attention_query_backward(int worker, const AttentionShape& shape, int n, const float* q,
                                std::int64_t q_stride, const float* scaled, const float* o,
                                const float* weight_sum, const float* d_o, float* du, float* dq,
                                double* d_scaled) override {
    const std::int64_t row = static_cast<std::int64_t>(shape.columns()) * shape.heads;
    simd::divide_backward(shape, n, o, weight_sum, d_o, du);
    simd::accumulate(scratch(worker), shape, n, q, q_stride, du, row, false, d_scaled);
    simd::pull_back(scratch(worker), shape, n, q, q_stride, scaled, du, row, false, dq, q_stride);
  }
  void attention_accumulate_backward(int worker, const AttentionShape& shape, int n, const float* k,
                                     std::int64_t k_stride, const float* v, std::int64_t v_stride,
                                     const float* d_state, float* dk, float* dv) override {
    simd::apply(scratch(worker), shape, n, k, k_stride, d_state, shape.value_dim, dv, v_stride);
    simd::pull_back(scratch(worker), shape, n, k, k_stride, d_state, v, v_stride, true, dk,
                    k_stride);
  }

  void head(int, int n, int dim, const float* h, const float* weight, const float* bias,
            float* log_probs) override {
    simd::head(n, dim, h, weight, bias, log_probs);
  }
  void head_backward(int, int n, int dim, const float* h, const float* weight,
                     const float* d_logits, float* dh, float* d_weight, float* d_bias) override {
    simd::head_backward(n, dim, h, weight, d_logits, dh, d_weight, d_bias);
  }

  void adamw(std::int64_t count, const AdamW& step, const double* gradient, float* m, float* v,
             float* p) override {
    for (std::int64_t i = 0; i < count; ++i) {
      const double g = gradient[i] * step.gradient_scale;
      const double mi = step.beta1 * static_cast<double>(m[i]) + (1 - step.beta1) * g;
      const double vi = step.beta2 * static_cast<double>(v[i]) + (1 - step.beta2) * g * g;
      const double pi = static_cast<double>(p[i]);
      const double move = mi / step.correction1 / (std::sqrt(vi / step.correction2) + step.epsilon);
      m[i] = static_cast<float>(mi);
      v[i] = static_cast<float>(vi);
      p[i] = static_cast<float>(pi - step.learning_rate * (move + step.weight_decay * pi));
    }
  }

 private:
  struct Scratch {
    simd::Scratch tables, u;
  };
  simd::Scratch& scratch(int worker) { return scratch_[static_cast<std::size_t>(worker)].tables; }

  Blocks blocks_;
  ThreadPool pool_;
  std::vector<Scratch> scratch_;
  const bool bf16_;
};

}  // namespace

std::unique_ptr<Backend<float>> make_cpu_backend(const CpuOptions& options) {
  return std::make_unique<CpuBackend>(options);
}

bool cpu_has_native_bf16() {
  heed_forced_isa();
  return onednn_has_native_bf16();
}

}  // namespace m5::kernels
