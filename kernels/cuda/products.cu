// cuBLASLt is column-major: a row-major [n][k] is its k x n. So y^T (out x n) = W x^T.
#include "kernels/cuda/products.hpp"

#include <cublasLt.h>

#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "kernels/cuda/rows.hpp"
#include "m5/error.hpp"

namespace m5::kernels::cuda {
namespace {

void check(cublasStatus_t status, const char* what) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  throw Error(ErrorKind::kResource, std::string("device cuda: cuBLASLt, ") + what + ": " +
                                        cublasLtGetStatusString(status));
}

template <class E>
constexpr cudaDataType_t kType = CUDA_R_32F;
template <>
constexpr cudaDataType_t kType<bf16> = CUDA_R_16BF;

// One product D (m x n) = op(A) op(B) + beta C, column-major.
struct Shape {
  bool transpose_a, transpose_b;
  std::int64_t m, n, k;
  std::int64_t lda, ldb, ldd;
  cudaDataType_t operand, result;
  cublasLtEpilogue_t epilogue;
  bool add;         // beta = 1
  bool split_sums;  // k is rows: their sum may be split, in a fixed order
};

struct Layout {
  cublasLtMatrixLayout_t handle = nullptr;
  Layout(cudaDataType_t type, std::int64_t rows, std::int64_t columns, std::int64_t ld) {
    check(cublasLtMatrixLayoutCreate(&handle, type, static_cast<std::uint64_t>(rows),
                                     static_cast<std::uint64_t>(columns), ld),
          "a layout");
  }
  ~Layout() { cublasLtMatrixLayoutDestroy(handle); }
  Layout(const Layout&) = delete;
  Layout& operator=(const Layout&) = delete;
};

struct Description {
  cublasLtMatmulDesc_t handle = nullptr;
  Description(const Shape& s, const void* bias, const void* aux) {
    check(cublasLtMatmulDescCreate(&handle, CUBLAS_COMPUTE_32F, CUDA_R_32F), "a product");
    const cublasOperation_t a = s.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N;
    const cublasOperation_t b = s.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N;
    set(CUBLASLT_MATMUL_DESC_TRANSA, a);
    set(CUBLASLT_MATMUL_DESC_TRANSB, b);
    set(CUBLASLT_MATMUL_DESC_EPILOGUE, s.epilogue);
    if (bias) set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
    if (aux) {
      set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, aux);
      set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, s.ldd);
    }
  }
  ~Description() { cublasLtMatmulDescDestroy(handle); }
  Description(const Description&) = delete;
  Description& operator=(const Description&) = delete;

 private:
  template <class V>
  void set(cublasLtMatmulDescAttributes_t attribute, const V& value) {
    check(cublasLtMatmulDescSetAttribute(handle, attribute, &value, sizeof value), "an attribute");
  }
};

constexpr int kProposals = 8;
struct Choice {
  bool found = false;
  cublasLtMatmulAlgo_t algorithm{};
};

}  // namespace

struct Products::Impl {
  Impl(Device& d, std::int64_t rows, bool measure)
      : device(d),
        most_rows(rows),
        measured(measure),
        workspace(d, static_cast<std::int64_t>(workspace_bytes()), "the products' workspace") {
    check(cublasLtCreate(&handle), "starting");
  }
  ~Impl() { cublasLtDestroy(handle); }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  // The algorithms that the library's heuristics give for this shape, best first. bias and aux tell
  // it how they are aligned.
  std::vector<Choice> proposals(const Shape& s, const void* bias, const void* aux, int most) {
    const Description description(s, bias, aux);
    const Layout a(s.operand, s.transpose_a ? s.k : s.m, s.transpose_a ? s.m : s.k, s.lda);
    const Layout b(s.operand, s.transpose_b ? s.n : s.k, s.transpose_b ? s.k : s.n, s.ldb);
    const Layout d(s.result, s.m, s.n, s.ldd);
    cublasLtMatmulPreference_t preference;
    check(cublasLtMatmulPreferenceCreate(&preference), "a preference");
    const std::size_t bytes = workspace_bytes();
    // Sums in place would depend on which block comes first.
    const std::uint32_t schemes =
        s.split_sums ? CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE : CUBLASLT_REDUCTION_SCHEME_NONE;
    cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                         &bytes, sizeof bytes);
    cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
                                         &schemes, sizeof schemes);
    cublasLtMatmulHeuristicResult_t results[kProposals] = {};
    int count = 0;
    const cublasStatus_t status =
        cublasLtMatmulAlgoGetHeuristic(handle, description.handle, a.handle, b.handle, d.handle,
                                       d.handle, preference, most, results, &count);
    cublasLtMatmulPreferenceDestroy(preference);
    std::vector<Choice> choices;
    for (int i = 0; status == CUBLAS_STATUS_SUCCESS && i < count; ++i) {
      Choice choice;
      choice.found = true;
      choice.algorithm = results[i].algo;
      if (results[i].state == CUBLAS_STATUS_SUCCESS) choices.push_back(choice);
    }
    return choices;
  }

  Choice choose(const Shape& s, const void* bias, const void* aux) {
    const bool measure = measured && s.operand == CUDA_R_16BF;
    const std::vector<Choice> choices = proposals(s, bias, aux, measure ? kProposals : 1);
    if (choices.empty()) return {};
    if (choices.size() == 1) return choices[0];
    try {
      return fastest(s, choices, bias, aux);
    } catch (const Error&) {
      return choices[0];  // no memory to try them in
    }
  }

  // Of operands of their own: the real ones may be added to.
  Choice fastest(const Shape& s, const std::vector<Choice>& choices, const void* bias,
                 const void* aux) {
    const std::size_t size = 2, result_size = s.result == CUDA_R_32F ? 4 : 2;
    const auto count = [](std::int64_t a, std::int64_t b) {
      return static_cast<std::size_t>(a * b);
    };
    const auto bytes = [&](std::size_t n) {
      Array<unsigned char> array(device, static_cast<std::int64_t>(n), "the choice of a product");
      device.fill(array.data(), 0x3c, n);  // small numbers of bf16
      return array;
    };
    const auto a = bytes(count(s.m, s.k) * size), b = bytes(count(s.k, s.n) * size);
    auto d = bytes(count(s.m, s.n) * result_size),
         own_aux = bytes(aux ? count(s.m, s.n) * size : 1);
    cudaEvent_t begin, end;
    cudaEventCreate(&begin);
    cudaEventCreate(&end);
    Choice best = choices[0];
    float least = 0;
    for (const Choice& choice : choices) {
      float time = 0;
      bool ran = true;
      for (int run = 0; run < 4 && ran; ++run) {  // the first is not counted
        cudaEventRecord(begin, device.stream());
        ran = multiply(s, choice, a.data(), b.data(), d.data(), d.data(), bias,
                       aux ? own_aux.data() : nullptr) == CUBLAS_STATUS_SUCCESS;
        cudaEventRecord(end, device.stream());
        device.finish();
        float once = 0;
        cudaEventElapsedTime(&once, begin, end);
        if (run == 1 || (run > 1 && once < time)) time = once;
      }
      if (ran && (least == 0 || time < least)) {
        least = time;
        best = choice;
      }
    }
    cudaEventDestroy(begin);
    cudaEventDestroy(end);
    return best;
  }

  cublasStatus_t multiply(const Shape& s, const Choice& choice, const void* a, const void* b,
                          const void* c, void* d, const void* bias, const void* aux) {
    const Description description(s, bias, aux);
    const Layout la(s.operand, s.transpose_a ? s.k : s.m, s.transpose_a ? s.m : s.k, s.lda);
    const Layout lb(s.operand, s.transpose_b ? s.n : s.k, s.transpose_b ? s.k : s.n, s.ldb);
    const Layout ld(s.result, s.m, s.n, s.ldd);
    const float alpha = 1, beta = s.add ? 1 : 0;
    return cublasLtMatmul(handle, description.handle, &alpha, a, la.handle, b, lb.handle, &beta, c,
                          ld.handle, d, ld.handle, &choice.algorithm, workspace.data(),
                          workspace.size(), device.stream());
  }

  // False where the library has no algorithm (an epilogue that it lacks).
  bool run(const char* name, const Shape& s, bool rows_are_n, const void* a, const void* b,
           const void* c, void* d, const void* bias, const void* aux) {
    const auto key = std::make_tuple(s.transpose_a, s.transpose_b, s.m, rows_are_n ? 0 : s.n,
                                     rows_are_n ? s.k : 0, s.operand, s.result, s.epilogue, s.add);
    auto at = choices.find(key);
    if (at == choices.end()) {
      Shape most = s;
      (rows_are_n ? most.n : most.k) = most_rows;
      at = choices.emplace(key, choose(most, bias, aux)).first;
    }
    if (!at->second.found) return false;
    device.before(name);
    cublasStatus_t status = multiply(s, at->second, a, b, c, d, bias, aux);
    if (status != CUBLAS_STATUS_SUCCESS) {
      // The algorithm for most_rows does not take so few.
      const std::vector<Choice> own = proposals(s, bias, aux, 1);
      if (!own.empty()) status = multiply(s, own[0], a, b, c, d, bias, aux);
    }
    device.after(name);
    check(status, name);
    return true;
  }

  Device& device;
  const std::int64_t most_rows;
  const bool measured;
  Array<unsigned char> workspace;
  cublasLtHandle_t handle = nullptr;
  using Key = std::tuple<bool, bool, std::int64_t, std::int64_t, std::int64_t, cudaDataType_t,
                         cudaDataType_t, cublasLtEpilogue_t, bool>;
  std::map<Key, Choice> choices;
};

Products::Products(Device& device, std::int64_t most_rows, bool measured)
    : impl_(std::make_unique<Impl>(device, most_rows, measured)) {}
Products::~Products() = default;
std::size_t Products::workspace_bytes() { return std::size_t{64} << 20; }

namespace {
[[noreturn]] void no_algorithm(const char* name) {
  throw Error(ErrorKind::kResource,
              std::string("device cuda: cuBLASLt has no algorithm for the product of ") + name);
}

template <class E>
Shape forward_shape(std::int64_t n, int in, int out, cublasLtEpilogue_t epilogue, bool add) {
  return {true, false, out, n, in, in, in, out, kType<E>, kType<E>, epilogue, add, false};
}
}  // namespace

template <class E>
void Products::forward(std::int64_t n, int in, int out, const E* x, const E* w, Maybe<E> bias,
                       Maybe<E> add, E* y) {
  const char* name = "product";
  if (bias) {
    const Shape s = forward_shape<E>(n, in, out, CUBLASLT_EPILOGUE_BIAS, add != nullptr);
    if (impl_->run(name, s, true, w, x, add ? add : y, y, bias, nullptr)) return;
  }
  const Shape s = forward_shape<E>(n, in, out, CUBLASLT_EPILOGUE_DEFAULT, add != nullptr);
  if (!impl_->run(name, s, true, w, x, add ? add : y, y, nullptr, nullptr)) no_algorithm(name);
  if (bias) add_bias(impl_->device, n, out, y, bias, y);
}

template <class E>
void Products::forward_gelu(std::int64_t n, int in, int out, const E* x, const E* w, const E* bias,
                            std::type_identity_t<E>* keep, E* y) {
  const char* name = "product_gelu";
  const Shape fused = forward_shape<E>(
      n, in, out, keep ? CUBLASLT_EPILOGUE_GELU_AUX_BIAS : CUBLASLT_EPILOGUE_GELU_BIAS, false);
  if (impl_->run(name, fused, true, w, x, y, y, bias, keep)) return;
  forward(n, in, out, x, w, nullptr, nullptr, y);
  gelu(impl_->device, n, out, y, bias, keep, y);
}

template <class E>
void Products::backward_input(std::int64_t n, int in, int out, const E* dy, const E* w,
                              Maybe<E> keep, E* dx) {
  const char* name = "product_backward";
  Shape s{false, false, in, n, out, in, out, in, kType<E>, kType<E>, CUBLASLT_EPILOGUE_DGELU,
          false, false};
  if (keep && impl_->run(name, s, true, w, dy, dx, dx, nullptr, keep)) return;
  s.epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  if (!impl_->run(name, s, true, w, dy, dx, dx, nullptr, nullptr)) no_algorithm(name);
  if (keep) gelu_backward(impl_->device, n * in, keep, dx, dx);
}

template <class E>
void Products::backward_weight(std::int64_t n, int in, int out, const E* x, const E* dy,
                               float* dw) {
  const char* name = "product_weight";
  const Shape s{
      false, true, in, out, n, in, out, in, kType<E>, CUDA_R_32F, CUBLASLT_EPILOGUE_DEFAULT,
      true,  true};
  if (!impl_->run(name, s, false, x, dy, dw, dw, nullptr, nullptr)) no_algorithm(name);
}

#define M5_INSTANTIATE(E)                                                                         \
  template void Products::forward<E>(std::int64_t, int, int, const E*, const E*, const E*,        \
                                     const E*, E*);                                               \
  template void Products::forward_gelu<E>(std::int64_t, int, int, const E*, const E*, const E*,   \
                                          E*, E*);                                                \
  template void Products::backward_input<E>(std::int64_t, int, int, const E*, const E*, const E*, \
                                            E*);                                                  \
  template void Products::backward_weight<E>(std::int64_t, int, int, const E*, const E*, float*);
M5_INSTANTIATE(float)
M5_INSTANTIATE(bf16)
#undef M5_INSTANTIATE

}  // namespace m5::kernels::cuda
