#include "case_backend.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

#include "case_attention.hpp"
#include "kernels/cuda/optimizer.hpp"
#include "kernels/cuda/products.hpp"
#include "kernels/cuda/rows.hpp"
#include "kernels/cuda/sequences.hpp"

namespace m5::kernels::cuda {
namespace {

constexpr int kMostRows = 512;  // of a product

template <class E>
struct CudaLinear : Linear<float> {
  CudaLinear(int in_columns, int out_columns) : in(in_columns), out(out_columns) {}
  int in, out;
  Array<E> weight, bias;
};

template <class E>
class CaseBackend final : public CaseAttention<E> {
 public:
  using LinearUse = Backend<float>::LinearUse;
  using Then = Backend<float>::Then;
  using AdamW = Backend<float>::AdamW;

  explicit CaseBackend(Device& device) : CaseAttention<E>(device), products_(device, kMostRows) {}

  std::string name() const override { return kNarrow ? "cuda bf16" : "cuda fp32"; }
  int workers() const override { return 1; }
  int preferred_block_rows(std::int64_t) const override { return kRunRows; }
  void for_tiles(std::int64_t tiles,
                 const std::function<void(int worker, std::int64_t tile)>& work) override {
    host_->for_tiles(tiles, work);
  }
  void* allocate(std::size_t bytes) override { return host_->allocate(bytes); }
  void release(void* memory) noexcept override { host_->release(memory); }

  // --- linear layers
  std::unique_ptr<Linear<float>> make_linear(int in, int out, LinearUse) override {
    return std::make_unique<CudaLinear<E>>(in, out);
  }
  void pack(Linear<float>& linear, const float* weight, const float* bias) override {
    auto& l = static_cast<CudaLinear<E>&>(linear);
    l.weight = operand(weight, std::int64_t{l.in} * l.out);
    l.bias = bias ? operand(bias, l.out) : Array<E>();
  }
  void linear(int, const Linear<float>& linear, int n, const float* x, float* y,
              Then then) override {
    const auto& l = static_cast<const CudaLinear<E>&>(linear);
    const std::int64_t size = std::int64_t{n} * l.out;
    const auto X = operand(x, std::int64_t{n} * l.in);
    auto Y = then == Then::kAdd ? operand(y, size) : room<E>(device_, size);
    if (then == Then::kGelu) {
      products_.forward_gelu<E>(n, l.in, l.out, X.data(), l.weight.data(), l.bias.data(), nullptr,
                                Y.data());
    } else {
      products_.forward<E>(n, l.in, l.out, X.data(), l.weight.data(), l.bias.data(),
                           then == Then::kAdd ? Y.data() : nullptr, Y.data());
    }
    store(Y, y);
  }
  void linear_backward_input(int, const Linear<float>& linear, int n, const float* dy, float* dx,
                             bool add) override {
    const auto& l = static_cast<const CudaLinear<E>&>(linear);
    const std::int64_t size = std::int64_t{n} * l.in;
    const auto DY = operand(dy, std::int64_t{n} * l.out);
    auto DX = add ? operand(dx, size) : room<E>(device_, size);
    products_.backward_input<E>(n, l.in, l.out, DY.data(), l.weight.data(), nullptr, DX.data(),
                                add);
    store(DX, dx);
  }
  void linear_backward_weight(int, int in, int out, int n, const float* x, const float* dy,
                              float* d_weight, float* d_bias) override {
    const auto X = operand(x, std::int64_t{n} * in), DY = operand(dy, std::int64_t{n} * out);
    auto DW = sum_of(d_weight, std::int64_t{in} * out);
    cuda::add_product(device_, products_, n, in, out, X, DY, DW);
    store(DW, d_weight);
    if (!d_bias) return;
    auto partial = room<float>(device_, sum_parts(n) * out);
    column_sums(device_, n, out, DY.data(), partial.data());
    add_sums(sum_parts(n), out, partial, d_bias);
  }

  // --- rows
  void embed(int, int n, int dim, int w, const std::uint8_t* window, const float* table,
             const float* bias, float* x) override {
    const CasePieces pieces(device_, n);
    const auto tokens = put_typed(device_, std::vector<Token>(window, window + n + 2 * w));
    const std::int64_t size = (2 * std::int64_t{w} + 1) * 7 * dim;
    const auto T = wide(table, size), B = wide(bias, dim);
    auto X = room<E>(device_, std::int64_t{n} * dim);
    if constexpr (kNarrow) {
      const auto R = operand(table, size);
      if (embed_mma(device_, pieces.from(0), dim, w, tokens.data(), R.data(), B.data(), X.data())) {
        return store(X, x);
      }
    }
    cuda::embed(device_, pieces.from(0), dim, w, tokens.data(), T.data(), B.data(), X.data());
    store(X, x);
  }
  void embed_backward(int, int n, int dim, int w, const std::uint8_t* window, const float* dx,
                      float* d_table, float* d_bias) override {
    const CasePieces pieces(device_, n);
    const auto tokens = put_typed(device_, std::vector<Token>(window, window + n + 2 * w));
    const int columns = one_hot_columns(w);
    const std::int64_t size = (2 * std::int64_t{w} + 1) * 7 * dim;
    auto hot = room<E>(device_, std::int64_t{n} * columns);
    one_hot(device_, pieces.from(0), w, tokens.data(), hot.data());
    std::vector<float> both(d_table, d_table + size);  // the bias follows the table
    both.insert(both.end(), d_bias, d_bias + dim);
    auto D = sum_of(both.data(), size + dim);
    cuda::add_product(device_, products_, n, dim, columns, operand(dx, std::int64_t{n} * dim), hot,
                      D);
    store(D, both.data());
    std::copy_n(both.begin(), size, d_table);
    std::copy_n(both.begin() + size, dim, d_bias);
  }
  void norm(int, int n, int dim, double epsilon, const float* x, const float* gain,
            float* y) override {
    const auto X = operand(x, std::int64_t{n} * dim);
    const auto G = wide(gain, dim);
    auto Y = room<E>(device_, std::int64_t{n} * dim);
    cuda::norm<E>(device_, n, dim, static_cast<float>(epsilon), X.data(), G.data(), Y.data(),
                  nullptr);
    store(Y, y);
  }
  void norm_backward(int, int n, int dim, double epsilon, const float* x, const float* gain,
                     const float* dy, float* dx, float* d_gain) override {
    const std::int64_t size = std::int64_t{n} * dim;
    const auto X = operand(x, size), DY = operand(dy, size);
    const auto G = wide(gain, dim);
    auto DX = operand(dx, size);
    auto partial = room<float>(device_, sum_parts(n) * dim);
    cuda::norm_backward<E>(device_, n, dim, static_cast<float>(epsilon), X.data(), G.data(),
                           DY.data(), DX.data(), DX.data(),
                           NormSums{partial.data(), nullptr, nullptr});
    store(DX, dx);
    add_sums(sum_parts(n), dim, partial, d_gain);
  }
  void to_bf16(std::int64_t count, const float* x, std::uint16_t* y) override {
    auto Y = room<bf16>(device_, count);
    const auto regions = put_typed(device_, std::vector<Region>{{0, count}});
    convert(device_, regions, count, wide(x, count).data(), Y.data());
    const std::vector<bf16> rounded = get_typed(device_, Y);
    std::transform(rounded.begin(), rounded.end(), y, [](bf16 v) { return v.bits; });
  }
  void from_bf16(std::int64_t, const std::uint16_t*, float*) override { none("from_bf16"); }
  void gelu(int, std::int64_t count, const float* x, float* y) override {
    auto Y = room<E>(device_, count);
    cuda::gelu<E>(device_, count / 8, 8, operand(x, count).data(), nullptr, nullptr, Y.data());
    store(Y, y);
  }
  void gelu_backward(int, std::int64_t count, const float* x, const float* dy, float* dx) override {
    auto D = operand(dy, count), DX = dx == dy ? Array<E>() : room<E>(device_, count);
    Array<E>& to = dx == dy ? D : DX;
    cuda::gelu_backward<E>(device_, count, operand(x, count).data(), D.data(), to.data());
    store(to, dx);
  }

  // The kernels have a norm before the convolution: inverse roots and gains of 1 leave x as it is.
  void local_conv(int, int n, int dim, int width, int dilation, const float* window,
                  const float* weight, bool flip, float* y) override {
    const std::int64_t margin = std::int64_t{width - 1} / 2 * dilation, all = n + 2 * margin;
    const CasePieces pieces(device_, n, margin);
    const auto X = operand(window, all * dim);
    const auto W = wide(weight, std::int64_t{width} * dim), G = ones(dim), R = ones(all);
    const Convolution conv{dim, width, dilation, G.data(), W.data()};
    auto Y = room<E>(device_, (flip ? n : all) * dim);
    if (flip) {
      convolve_backward(device_, pieces.from(margin), conv, X.data(), Y.data());
    } else {
      convolve(device_, pieces.from(0), conv, X.data(), R.data(), Y.data());
    }
    const Values out = get(device_, Y), x = get(device_, X);
    for (std::int64_t i = 0; i < std::int64_t{n} * dim; ++i) {
      const auto own = static_cast<std::size_t>(i), at = static_cast<std::size_t>(i + margin * dim);
      y[i] = static_cast<float>(static_cast<double>(y[i]) + (flip ? out[own] : out[at] - x[at]));
    }
  }
  void local_conv_backward_weight(int, int n, int dim, int width, int dilation, const float* window,
                                  const float* dy, float* d_weight) override {
    const std::int64_t margin = std::int64_t{width - 1} / 2 * dilation, all = n + 2 * margin;
    const CasePieces pieces(device_, n, margin);
    const auto X = operand(window, all * dim);
    const auto G = ones(dim), R = ones(all);
    Values rows(static_cast<std::size_t>(all * dim), std::nan(""));
    std::copy_n(dy, std::int64_t{n} * dim, rows.begin() + margin * dim);
    auto partial = room<float>(device_, pieces.count() * width * dim);
    convolve_backward_weight(device_, pieces.from(0),
                             Convolution{dim, width, dilation, G.data(), nullptr}, X.data(),
                             R.data(), put<E>(device_, rows).data(), partial.data());
    add_sums(pieces.count(), std::int64_t{width} * dim, partial, d_weight);
  }

  // --- output head and loss
  void head(int, int n, int dim, const float* h, const float* weight, const float* bias,
            float* log_probs) override {
    const Head p(*this, dim, weight, bias);
    auto L = room<float>(device_, std::int64_t{n} * 4);
    cuda::head<E>(device_, p.parameters, n, operand(h, std::int64_t{n} * dim).data(), L.data(),
                  nullptr);
    store(L, log_probs);
  }
  void head_backward(int, int n, int dim, const float* h, const float* weight,
                     const float* d_logits, float* dh, float* d_weight, float* d_bias) override {
    const float no_bias[4] = {};
    const Head p(*this, dim, weight, no_bias);
    const std::int64_t size = std::int64_t{n} * dim, parts = sum_parts(n);
    const auto H = operand(h, size);
    const auto D = wide(d_logits, std::int64_t{n} * 4);
    auto L = room<float>(device_, std::int64_t{n} * 4), R = room<float>(device_, n),
         partial = room<float>(device_, parts * 4 * dim);
    auto DW = sum_of(d_weight, 4 * dim),
         total = put_typed(device_, Values(static_cast<std::size_t>(4 * dim))),
         d_gain = put_typed(device_, Values(static_cast<std::size_t>(dim)));
    auto DH = room<E>(device_, size);
    cuda::head<E>(device_, p.parameters, n, H.data(), L.data(), R.data());
    cuda::head_backward<E>(device_, p.parameters, n, H.data(), R.data(), D.data(), DH.data(),
                           partial.data());
    add_parts(device_, parts, 4 * dim, partial.data(), total.data());
    head_gradients(device_, p.parameters, total.data(), DW.data(), d_gain.data());
    store(DH, dh);
    store(DW, d_weight);
    for (int b = 0; b < 4; ++b) {  // the host's (CudaPass::head_backward)
      double sum = static_cast<double>(d_bias[b]);
      for (int i = 0; i < n; ++i) sum += static_cast<double>(d_logits[i * 4 + b]);
      d_bias[b] = static_cast<float>(sum);
    }
  }

  // --- optimizer
  void adamw(std::int64_t count, const AdamW& step, const double* gradient, float* m, float* v,
             float* p) override {
    const std::vector<UpdatePart> parts{{.offset = 0, .size = count, .decay = true}};
    const auto stretches = put_typed(device_, stretches_of(parts));
    const auto G = put_typed(device_, Values(gradient, gradient + count));
    auto M = wide(m, count), V = wide(v, count), P = wide(p, count);
    auto not_finite = put_typed(device_, std::vector<int>{0});
    cuda::adamw(device_, static_cast<std::int64_t>(stretches.size()), stretches.data(), step,
                G.data(), M.data(), V.data(), P.data(), not_finite.data());
    store(M, m);
    store(V, v);
    store(P, p);
  }

 private:
  using CaseAttention<E>::kNarrow;
  using CaseAttention<E>::device_;
  using CaseAttention<E>::none;
  using CaseAttention<E>::operand;
  using CaseAttention<E>::wide;
  using CaseAttention<E>::ones;
  using CaseAttention<E>::store;

  // to += the partial sums.
  void add_sums(std::int64_t parts, std::int64_t count, const Array<float>& partial, float* to) {
    auto total = sum_of(to, count);
    add_parts(device_, parts, count, partial.data(), total.data());
    store(total, to);
  }
  // What sums in double begin with.
  Array<double> sum_of(const float* x, std::int64_t count) {
    return put_typed(device_, Values(x, x + count));
  }
  // The kernel has the final norm before the head: one that changes nothing, its root being 2^-40.
  struct Head {
    Head(CaseBackend& b, int dim, const float* weight, const float* bias)
        : gain(put<float>(b.device_, Values(static_cast<std::size_t>(dim), 0x1p40))),
          w(b.wide(weight, std::int64_t{4} * dim)),
          bias4(b.wide(bias, 4)),
          parameters{dim, 0x1p80f, gain.data(), w.data(), bias4.data()} {}
    const Array<float> gain, w, bias4;
    const HeadParameters parameters;
  };

  Products products_;
  const std::unique_ptr<Backend<float>> host_ = make_ref_backend<float>();
};

}  // namespace

template <class E>
std::unique_ptr<Backend<float>> make_case_backend(Device& device) {
  return std::make_unique<CaseBackend<E>>(device);
}
template std::unique_ptr<Backend<float>> make_case_backend<float>(Device& device);
template std::unique_ptr<Backend<float>> make_case_backend<bf16>(Device& device);

}  // namespace m5::kernels::cuda
