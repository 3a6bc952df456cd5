#include "nn/timed_backend.hpp"

#include <time.h>

#include <string_view>

namespace m5 {
namespace {

using kernels::AttentionShape;
using kernels::Backend;
using kernels::Linear;

constexpr std::string_view kNames[] = {"pack",
                                       "linear",
                                       "linear_backward_input",
                                       "linear_backward_weight",
                                       "embed",
                                       "embed_backward",
                                       "norm",
                                       "norm_backward",
                                       "to_bf16",
                                       "from_bf16",
                                       "gelu",
                                       "gelu_backward",
                                       "local_conv",
                                       "local_conv_backward_weight",
                                       "bound",
                                       "bound_backward",
                                       "attention_accumulate",
                                       "attention_scale",
                                       "attention_query",
                                       "attention_query_backward",
                                       "attention_accumulate_backward",
                                       "head",
                                       "head_backward",
                                       "adamw"};
static_assert(std::size(kNames) == OperationTimes::kOperations);

// The place of a name in kNames; one that is not there does not compile.
struct Operation {
  consteval Operation(const char* name) : index(0) {
    while (kNames[index] != name) ++index;
  }
  int index;
};

// Adds the CPU time that its thread gets while it lives.
class Timer {
 public:
  Timer(OperationTimes& times, Operation operation)
      : times_(times), operation_(operation.index), start_(now()) {}
  ~Timer() { times_.add(operation_, now() - start_); }
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;

 private:
  static std::int64_t now() {
    timespec t{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return std::int64_t{t.tv_sec} * 1'000'000'000 + t.tv_nsec;
  }
  OperationTimes& times_;
  int operation_;
  std::int64_t start_;
};

class TimedBackend final : public Backend<float> {
 public:
  TimedBackend(Backend<float>& backend, OperationTimes& times) : backend_(backend), times_(times) {}

  std::string name() const override { return backend_.name(); }
  int workers() const override { return backend_.workers(); }
  int preferred_block_rows(std::int64_t row_bytes) const override {
    return backend_.preferred_block_rows(row_bytes);
  }
  int operand_bytes() const override { return backend_.operand_bytes(); }
  void for_tiles(std::int64_t tiles,
                 const std::function<void(int worker, std::int64_t tile)>& work) override {
    backend_.for_tiles(tiles, work);
  }
  void* allocate(std::size_t bytes) override { return backend_.allocate(bytes); }
  void release(void* memory) noexcept override { backend_.release(memory); }
  std::unique_ptr<Linear<float>> make_linear(int in, int out, LinearUse use) override {
    return backend_.make_linear(in, out, use);
  }
  void pack(Linear<float>& linear, const float* weight, const float* bias) override {
    const Timer timer(times_, "pack");
    backend_.pack(linear, weight, bias);
  }
  void linear(int worker, const Linear<float>& linear, int n, const float* x, float* y,
              Then then) override {
    const Timer timer(times_, "linear");
    backend_.linear(worker, linear, n, x, y, then);
  }
  void linear_backward_input(int worker, const Linear<float>& linear, int n, const float* dy,
                             float* dx, bool add) override {
    const Timer timer(times_, "linear_backward_input");
    backend_.linear_backward_input(worker, linear, n, dy, dx, add);
  }
  void linear_backward_weight(int worker, int in, int out, int n, const float* x, const float* dy,
                              float* d_weight, float* d_bias) override {
    const Timer timer(times_, "linear_backward_weight");
    backend_.linear_backward_weight(worker, in, out, n, x, dy, d_weight, d_bias);
  }
  void embed(int worker, int n, int dim, int w, const std::uint8_t* window, const float* table,
             const float* bias, float* x) override {
    const Timer timer(times_, "embed");
    backend_.embed(worker, n, dim, w, window, table, bias, x);
  }
  void embed_backward(int worker, int n, int dim, int w, const std::uint8_t* window,
                      const float* dx, float* d_table, float* d_bias) override {
    const Timer timer(times_, "embed_backward");
    backend_.embed_backward(worker, n, dim, w, window, dx, d_table, d_bias);
  }
  void norm(int worker, int n, int dim, double epsilon, const float* x, const float* gain,
            float* y) override {
    const Timer timer(times_, "norm");
    backend_.norm(worker, n, dim, epsilon, x, gain, y);
  }
  void norm_backward(int worker, int n, int dim, double epsilon, const float* x, const float* gain,
                     const float* dy, float* dx, float* d_gain) override {
    const Timer timer(times_, "norm_backward");
    backend_.norm_backward(worker, n, dim, epsilon, x, gain, dy, dx, d_gain);
  }
  void to_bf16(std::int64_t count, const float* x, std::uint16_t* y) override {
    const Timer timer(times_, "to_bf16");
    backend_.to_bf16(count, x, y);
  }
  void from_bf16(std::int64_t count, const std::uint16_t* x, float* y) override {
    const Timer timer(times_, "from_bf16");
    backend_.from_bf16(count, x, y);
  }
  void gelu(int worker, std::int64_t count, const float* x, float* y) override {
    const Timer timer(times_, "gelu");
    backend_.gelu(worker, count, x, y);
  }
  void gelu_backward(int worker, std::int64_t count, const float* x, const float* dy,
                     float* dx) override {
    const Timer timer(times_, "gelu_backward");
    backend_.gelu_backward(worker, count, x, dy, dx);
  }
  void local_conv(int worker, int n, int dim, int width, int dilation, const float* window,
                  const float* weight, bool flip, float* y) override {
    const Timer timer(times_, "local_conv");
    backend_.local_conv(worker, n, dim, width, dilation, window, weight, flip, y);
  }
  void local_conv_backward_weight(int worker, int n, int dim, int width, int dilation,
                                  const float* window, const float* dy, float* d_weight) override {
    const Timer timer(times_, "local_conv_backward_weight");
    backend_.local_conv_backward_weight(worker, n, dim, width, dilation, window, dy, d_weight);
  }
  void bound(int worker, const AttentionShape& shape, int n, std::int64_t stride, const float* z,
             float* bounded) override {
    const Timer timer(times_, "bound");
    backend_.bound(worker, shape, n, stride, z, bounded);
  }
  void bound_backward(int worker, const AttentionShape& shape, int n, std::int64_t stride,
                      const float* z, const float* d_bounded, float* dz) override {
    const Timer timer(times_, "bound_backward");
    backend_.bound_backward(worker, shape, n, stride, z, d_bounded, dz);
  }
  void attention_accumulate(int worker, const AttentionShape& shape, int n, const float* z,
                            std::int64_t z_stride, const float* u, std::int64_t u_stride,
                            bool unit_column, double* state) override {
    const Timer timer(times_, "attention_accumulate");
    backend_.attention_accumulate(worker, shape, n, z, z_stride, u, u_stride, unit_column, state);
  }
  void attention_scale(const AttentionShape& shape, const double* state, float* scaled) override {
    const Timer timer(times_, "attention_scale");
    backend_.attention_scale(shape, state, scaled);
  }
  void attention_query(int worker, const AttentionShape& shape, int n, const float* q,
                       std::int64_t q_stride, const float* scaled, float* o,
                       float* weight_sum) override {
    const Timer timer(times_, "attention_query");
    backend_.attention_query(worker, shape, n, q, q_stride, scaled, o, weight_sum);
  }
  void attention_query_backward(int worker, const AttentionShape& shape, int n, const float* q,
                                std::int64_t q_stride, const float* scaled, const float* o,
                                const float* weight_sum, const float* d_o, float* du, float* dq,
                                double* d_scaled) override {
    const Timer timer(times_, "attention_query_backward");
    backend_.attention_query_backward(worker, shape, n, q, q_stride, scaled, o, weight_sum, d_o, du,
                                      dq, d_scaled);
  }
  void attention_accumulate_backward(int worker, const AttentionShape& shape, int n, const float* k,
                                     std::int64_t k_stride, const float* v, std::int64_t v_stride,
                                     const float* d_state, float* dk, float* dv) override {
    const Timer timer(times_, "attention_accumulate_backward");
    backend_.attention_accumulate_backward(worker, shape, n, k, k_stride, v, v_stride, d_state, dk,
                                           dv);
  }
  void head(int worker, int n, int dim, const float* h, const float* weight, const float* bias,
            float* log_probs) override {
    const Timer timer(times_, "head");
    backend_.head(worker, n, dim, h, weight, bias, log_probs);
  }
  void head_backward(int worker, int n, int dim, const float* h, const float* weight,
                     const float* d_logits, float* dh, float* d_weight, float* d_bias) override {
    const Timer timer(times_, "head_backward");
    backend_.head_backward(worker, n, dim, h, weight, d_logits, dh, d_weight, d_bias);
  }
  void adamw(std::int64_t count, const AdamW& step, const double* gradient, float* m, float* v,
             float* p) override {
    const Timer timer(times_, "adamw");
    backend_.adamw(count, step, gradient, m, v, p);
  }

 private:
  Backend<float>& backend_;
  OperationTimes& times_;
};

}  // namespace

std::vector<OperationTimes::Share> OperationTimes::shares() const {
  std::vector<Share> shares;
  for (std::size_t i = 0; i < nanoseconds_.size(); ++i) {
    const double seconds = 1e-9 * static_cast<double>(nanoseconds_[i].load());
    if (seconds > 0) shares.push_back({std::string(kNames[i]), seconds});
  }
  return shares;
}

void OperationTimes::reset() {
  for (auto& n : nanoseconds_) n = 0;
}

void OperationTimes::add(int operation, std::int64_t nanoseconds) {
  nanoseconds_[static_cast<std::size_t>(operation)] += nanoseconds;
}

std::unique_ptr<Backend<float>> make_timed_backend(Backend<float>& backend, OperationTimes& times) {
  return std::make_unique<TimedBackend>(backend, times);
}

}  // namespace m5
