// Named operations on blocks of rows in host memory: what the tiled sweeps are made of, and what is
// beside the sweeps of a device (the update on the host, genome memory).
//
// Rules
// - Row-major and contiguous; a block holds n rows; sizes are checked by the caller once per model.
// - Operations run on the calling worker, named by `worker` in [0, workers()); two workers may run
//   at the same time on different memory. for_tiles hands out the workers.
// - Outputs overwrite, unless the comment says "+=". Gradients of parameters and attention states
//   are "+=". Outputs never alias inputs unless the comment says "in place".
// - Row lengths (dim, ff, columns x heads) are multiples of 8. The x and y of linear and
//   linear_backward_input have room for n rounded up to kRowStep: rows behind n may be read and
//   hold anything afterwards.
// - A result depends on its inputs alone, never on n, the worker, or what ran before.
// - Attention columns are [component][head]: query q[4][H], key k[4][H], value v[dv][H].
//   H = heads, a multiple of 8. F = number of monomials of degree <= p, in the order of
//   kernels/math/monomials.hpp. C = dv + 1 columns of a state: the values, then the weight sum.
//   State S[F][C][H].
//
// T is float; the `ref` backend also comes in double and is the oracle of the others.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace m5::kernels {

struct AttentionShape {
  int heads = 0;                   // H
  int value_dim = 0;               // dv
  int order = 0;                   // p
  double bound = 0;                // R
  int features = 0;                // F
  std::vector<double> polynomial;  // c_0..c_p
  std::vector<double> weights;     // c_|f| |f|! / f! of the features: feature_weights(polynomial)
  int columns() const { return value_dim + 1; }
  std::int64_t state_size() const {
    return static_cast<std::int64_t>(features) * columns() * heads;
  }
};

// A weight matrix W[out][in] with an optional bias[out] in the layout the backend likes.
template <class T>
class Linear {
 public:
  virtual ~Linear() = default;
};

template <class T>
class Backend {
 public:
  virtual ~Backend() = default;

  virtual std::string name() const = 0;  // "cpu AVX3_ZEN4", "ref"
  virtual int workers() const = 0;
  // Rows a worker should hold at a time, a multiple of kRunRows, when its workspace takes row_bytes
  // a row.
  virtual int preferred_block_rows(std::int64_t row_bytes) const = 0;
  // Bytes of a value that `linear` converts before it multiplies; 0: it takes them as they are.
  virtual int operand_bytes() const { return 0; }
  // Calls work(worker, tile) for every tile in [0, tiles), handed out in ascending order to free
  // workers; returns when all are done; rethrows the first exception.
  virtual void for_tiles(std::int64_t tiles,
                         const std::function<void(int worker, std::int64_t tile)>& work) = 0;

  // allocate throws Error(kResource) with the bytes asked for.
  virtual void* allocate(std::size_t bytes) = 0;
  virtual void release(void* memory) noexcept = 0;

  // --- linear layers -------------------------------------------------------------------------
  enum LinearUse { kForward, kForwardAndBackward };
  // W[out][in], bias[out] or null; copied and packed. May be packed again when W changes.
  virtual std::unique_ptr<Linear<T>> make_linear(int in, int out, LinearUse use) = 0;
  virtual void pack(Linear<T>& linear, const T* weight, const T* bias) = 0;
  enum class Then { kStore, kAdd, kGelu };  // y = , y += , y = gelu(.)
  // y[n][out] (then) x[n][in] W^T + bias.
  virtual void linear(int worker, const Linear<T>& linear, int n, const T* x, T* y, Then then) = 0;
  // dx[n][in] = dy[n][out] W, or += with add.
  virtual void linear_backward_input(int worker, const Linear<T>& linear, int n, const T* dy, T* dx,
                                     bool add) = 0;
  // dW[out][in] += dy^T x, dbias[out] += sum of rows of dy (dbias may be null).
  virtual void linear_backward_weight(int worker, int in, int out, int n, const T* x, const T* dy,
                                      T* d_weight, T* d_bias) = 0;

  // --- rows ----------------------------------------------------------------------------------
  // x[i] = bias + sum_{delta=-w..w} table[delta + w][window[i + w + delta]]; window holds n + 2w
  // tokens, the first is w before row 0. table [2w+1][7][d]; PAD (6) adds nothing.
  virtual void embed(int worker, int n, int dim, int w, const std::uint8_t* window, const T* table,
                     const T* bias, T* x) = 0;
  virtual void embed_backward(int worker, int n, int dim, int w, const std::uint8_t* window,
                              const T* dx, T* d_table, T* d_bias) = 0;
  // y = x * gain / sqrt(mean(x^2) + epsilon), by rows of d; NaN where x^2 overflows.
  virtual void norm(int worker, int n, int dim, double epsilon, const T* x, const T* gain,
                    T* y) = 0;
  // dx += (d norm / d x)^T dy; d_gain +=.
  virtual void norm_backward(int worker, int n, int dim, double epsilon, const T* x, const T* gain,
                             const T* dy, T* dx, T* d_gain) = 0;
  // Rounds to bf16, to nearest, ties to even (NaN stays NaN), and back.
  virtual void to_bf16(std::int64_t count, const T* x, std::uint16_t* y) = 0;
  virtual void from_bf16(std::int64_t count, const std::uint16_t* x, T* y) = 0;
  // y = gelu(x), tanh form, elementwise; count elements.
  virtual void gelu(int worker, std::int64_t count, const T* x, T* y) = 0;
  // dx = gelu'(x) dy. dx may be dy (in place).
  virtual void gelu_backward(int worker, std::int64_t count, const T* x, const T* dy, T* dx) = 0;
  // y[i][c] += sum_j weight[j][c] window[i + j*dilation][c], j < width; window holds
  // n + (width-1)*dilation rows, row i of y sits at window row i + (width-1)/2*dilation.
  // weight [width][d]. The transposed convolution (backward) is the same with reversed taps:
  // flip = true uses weight[width-1-j].
  virtual void local_conv(int worker, int n, int dim, int width, int dilation, const T* window,
                          const T* weight, bool flip, T* y) = 0;
  // d_weight[j][c] += sum_i dy[i][c] window[i + j*dilation][c].
  virtual void local_conv_backward_weight(int worker, int n, int dim, int width, int dilation,
                                          const T* window, const T* dy, T* d_weight) = 0;

  // --- attention -----------------------------------------------------------------------------
  // z' = z * sqrt(R / (R + |z|^2)) by head: z, bounded: [n][stride], components [4][H] first.
  // May run in place.
  virtual void bound(int worker, const AttentionShape& shape, int n, std::int64_t stride,
                     const T* z, T* bounded) = 0;
  // dz = (d z'/d z)^T d_bounded; d_bounded and dz have the stride of z; in place allowed.
  virtual void bound_backward(int worker, const AttentionShape& shape, int n, std::int64_t stride,
                              const T* z, const T* d_bounded, T* dz) = 0;
  // S[f][c][h] += sum_i m_f(z_i,h) u[i][c][h], m_f the bare monomial; u has value_dim columns and
  // the last column of S sums the monomials (u = 1) when unit_column, else u has value_dim + 1
  // columns. Sums in T over runs of kRunRows rows from the first row given, then in double.
  virtual void attention_accumulate(int worker, const AttentionShape& shape, int n, const T* z,
                                    std::int64_t z_stride, const T* u, std::int64_t u_stride,
                                    bool unit_column, double* state) = 0;
  // scaled[f] = c_|f| |f|! / f! * state[f]: folds the polynomial into the state.
  virtual void attention_scale(const AttentionShape& shape, const double* state, T* scaled) = 0;
  // u = sum_f m_f(q) scaled[f]; o[i][c][h] = u[c]/u[dv]; weight_sum[i][h] = u[dv].
  virtual void attention_query(int worker, const AttentionShape& shape, int n, const T* q,
                               std::int64_t q_stride, const T* scaled, T* o, T* weight_sum) = 0;
  // From d_o: dq [n][q_stride], and d_scaled[f][c][h] += m_f(q) du[c] (in double, as accumulate).
  // du is workspace of n * (dv+1) * H.
  virtual void attention_query_backward(int worker, const AttentionShape& shape, int n, const T* q,
                                        std::int64_t q_stride, const T* scaled, const T* o,
                                        const T* weight_sum, const T* d_o, T* du, T* dq,
                                        double* d_scaled) = 0;
  // From the gradient of the unscaled state (attention_scale applied to the total of d_scaled):
  // dk and dv. k [n][k_stride], v [n][v_stride], outputs with the same strides.
  virtual void attention_accumulate_backward(int worker, const AttentionShape& shape, int n,
                                             const T* k, std::int64_t k_stride, const T* v,
                                             std::int64_t v_stride, const T* d_state, T* dk,
                                             T* dv) = 0;

  // --- output head and loss ------------------------------------------------------------------
  // log_probs[i][b] = log softmax_b(h[i] W^T + bias), 4 classes. W [4][d], bias [4].
  virtual void head(int worker, int n, int dim, const T* h, const T* weight, const T* bias,
                    T* log_probs) = 0;
  // d_logits[n][4] is the gradient of h W^T + bias: dh, d_weight +=, d_bias +=.
  virtual void head_backward(int worker, int n, int dim, const T* h, const T* weight,
                             const T* d_logits, T* dh, T* d_weight, T* d_bias) = 0;

  // --- optimizer -----------------------------------------------------------------------------
  struct AdamW {
    double learning_rate, beta1, beta2, epsilon, weight_decay;
    double correction1, correction2;  // 1 - beta^t
    double gradient_scale;            // clipping and averaging
  };
  // m, v, p updated in place from gradient[count].
  virtual void adamw(std::int64_t count, const AdamW& step, const double* gradient, T* m, T* v,
                     T* p) = 0;
};

// fp32 sums of attention over rows end after so many, and go on in double (ARCHITECTURE.md).
inline constexpr int kRunRows = 128;
// Rows of linear layers are computed in steps of this many.
inline constexpr int kRowStep = 64;
// A tile is the unit of work of a sweep and of every reduction: fixed, so that sums do not depend
// on the number of threads. Tiles start at the first row of their sequence.
inline constexpr std::int64_t kTileRows = 2048;

// Plain loops. Oracle of every operation.
template <class T>
std::unique_ptr<Backend<T>> make_ref_backend();
extern template std::unique_ptr<Backend<float>> make_ref_backend<float>();
extern template std::unique_ptr<Backend<double>> make_ref_backend<double>();

struct CpuOptions {
  int threads = 1;
  bool bf16 = false;  // matrix products of bf16 operands, fp32 sums
};
// Both heed M5_CPU_ISA: Error(kUsage) where the CPU or this build lacks what it names.
std::unique_ptr<Backend<float>> make_cpu_backend(const CpuOptions& options);
// Whether the products of bf16 are instructions of the CPU; elsewhere they are fp32 products of
// rounded operands, which saves no time.
bool cpu_has_native_bf16();

// Owned memory of a backend. Views are plain pointers into it.
template <class T, class U = T>
class Buffer {
 public:
  Buffer() = default;
  Buffer(Backend<T>& backend, std::size_t count)
      : backend_(&backend),
        data_(static_cast<U*>(backend.allocate(count * sizeof(U)))),
        size_(count) {}
  Buffer(Buffer&& o) noexcept { swap(o); }
  Buffer& operator=(Buffer&& o) noexcept {
    swap(o);
    return *this;
  }
  ~Buffer() {
    if (data_) backend_->release(data_);
  }
  U* data() { return data_; }
  const U* data() const { return data_; }
  std::size_t size() const { return size_; }

 private:
  void swap(Buffer& o) noexcept {
    std::swap(backend_, o.backend_);
    std::swap(data_, o.data_);
    std::swap(size_, o.size_);
  }
  Backend<T>* backend_ = nullptr;
  U* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace m5::kernels
