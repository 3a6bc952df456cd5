// cuBLASLt is column-major: a row-major [n][k] is its k x n. So y^T (out x n) = W x^T.
#include "kernels/cuda/products.hpp"

#include <cublasLt.h>

#include <algorithm>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "kernels/cuda/choice.hpp"
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
  int parts = 1;    // products one behind the other: k of the next begins where this one's ends
};

struct Layout {
  cublasLtMatrixLayout_t handle = nullptr;
  // `parts` of them, each behind the one before.
  Layout(cudaDataType_t type, std::int64_t rows, std::int64_t columns, std::int64_t ld, int parts) {
    check(cublasLtMatrixLayoutCreate(&handle, type, static_cast<std::uint64_t>(rows),
                                     static_cast<std::uint64_t>(columns), ld),
          "a layout");
    if (parts == 1) return;
    const std::int64_t step = ld * columns;
    set(CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, parts);
    set(CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, step);
  }
  ~Layout() { cublasLtMatrixLayoutDestroy(handle); }
  Layout(const Layout&) = delete;
  Layout& operator=(const Layout&) = delete;

 private:
  template <class V>
  void set(cublasLtMatrixLayoutAttribute_t attribute, const V& value) {
    check(cublasLtMatrixLayoutSetAttribute(handle, attribute, &value, sizeof value), "a layout");
  }
};

// Those of A, B and D.
struct Layouts {
  explicit Layouts(const Shape& s)
      : a(s.operand, s.transpose_a ? s.k : s.m, s.transpose_a ? s.m : s.k, s.lda, s.parts),
        b(s.operand, s.transpose_b ? s.n : s.k, s.transpose_b ? s.k : s.n, s.ldb, s.parts),
        d(s.result, s.m, s.n, s.ldd, s.parts) {}
  Layout a, b, d;
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
constexpr std::int64_t kTriedRows = 32768;  // of products whose rows do not meet

struct Timer {
  cudaEvent_t event = nullptr;
  Timer() { cudaEventCreate(&event); }
  ~Timer() { cudaEventDestroy(event); }
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;
};

struct Choice {
  bool found = false;
  cublasLtMatmulAlgo_t algorithm{}, first{};  // the one that was taken, the first that was proposed
};

}  // namespace

struct Products::Impl {
  Impl(Device& d, std::int64_t rows, bool measure, std::int64_t aligned_elements)
      : device(d),
        most_rows(rows),
        measured(measure),
        aligned(aligned_elements),
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
    const Layouts of(s);
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
    // One leading dimension is `in`, another one `out`.
    const auto bytes_aligned = static_cast<std::uint32_t>(
        product_alignment(static_cast<int>(s.lda), static_cast<int>(s.ldb | s.ldd), aligned));
    for (const auto each :
         {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
          CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES}) {
      cublasLtMatmulPreferenceSetAttribute(preference, each, &bytes_aligned, sizeof bytes_aligned);
    }
    cublasLtMatmulHeuristicResult_t results[kProposals] = {};
    int count = 0;
    const cublasStatus_t status =
        cublasLtMatmulAlgoGetHeuristic(handle, description.handle, of.a.handle, of.b.handle,
                                       of.d.handle, of.d.handle, preference, most, results, &count);
    cublasLtMatmulPreferenceDestroy(preference);
    std::vector<Choice> choices;
    for (int i = 0; status == CUBLAS_STATUS_SUCCESS && i < count; ++i) {
      Choice choice;
      choice.found = true;
      choice.algorithm = choice.first = results[i].algo;
      if (results[i].state == CUBLAS_STATUS_SUCCESS) choices.push_back(choice);
    }
    return choices;
  }

  // s: of most_rows.
  Choice choose(const Shape& s, bool rows_are_n, const void* bias, const void* aux) {
    const bool measure = measured && s.operand == CUDA_R_16BF;
    const std::vector<Choice> choices = proposals(s, bias, aux, measure ? kProposals : 1);
    if (choices.empty()) return {};
    if (choices.size() == 1) return choices[0];
    Shape tried = s;
    if (rows_are_n) tried.n = std::min(tried.n, kTriedRows);
    try {
      return fastest(tried, choices, bias, aux);
    } catch (const Error&) {  // no memory to try them in
      device.finish();        // or a kernel that failed: then nothing will work, and this says so
      return choices[0];
    }
  }

  // Of those that give the bits of the first on random operands: which one it is may differ from
  // process to process, what comes of it may not.
  Choice fastest(const Shape& s, const std::vector<Choice>& choices, const void* bias,
                 const void* aux) {
    const std::int64_t result_words = s.parts * s.m * s.n * (s.result == CUDA_R_32F ? 4 : 2) / 4;
    const auto words = [&](std::int64_t n) {
      return Array<unsigned>(device, n, "the choice of a product");
    };
    // aux is written by the one epilogue, read by the other.
    const std::int64_t aux_words = aux ? s.m * s.n / 2 : 1;
    auto a = words(s.parts * s.m * s.k / 2), b = words(s.parts * s.k * s.n / 2),
         d = words(result_words), d_first = words(result_words), own_aux = words(aux_words),
         aux_first = words(aux_words);
    Array<int> differ(device, 1, "the choice of a product");
    const auto fill = [&](Array<unsigned>& to, unsigned seed) {
      random_pairs(device, static_cast<std::int64_t>(to.size()), seed, to.data());
    };
    const auto compare = [&](const Array<unsigned>& x, const Array<unsigned>& y) {
      compare_words(device, static_cast<std::int64_t>(x.size()), x.data(), y.data(), differ.data());
    };
    fill(b, 2);
    const Timer begin, end;
    // Its time in milliseconds, or less than 0 where it does not run.
    const auto run = [&](const Choice& choice) {
      fill(a, 1);  // the device is busy while the host comes to the product
      cudaEventRecord(begin.event, device.stream());
      const bool ran = multiply(s, choice.algorithm, a.data(), b.data(), d.data(), d.data(), bias,
                                aux ? own_aux.data() : nullptr) == CUBLAS_STATUS_SUCCESS;
      cudaEventRecord(end.event, device.stream());
      device.finish();
      float time = 0;
      cudaEventElapsedTime(&time, begin.event, end.event);
      return ran ? time : -1;
    };
    Choice best = choices[0];
    float least = 0;
    for (const Choice& choice : choices) {
      const bool first = &choice == choices.data();
      fill(d, 3);  // some add to it
      fill(own_aux, 4);
      if (run(choice) < 0) {
        if (first) break;
        continue;
      }
      if (first) {
        device.copy(d_first.data(), d.data(), d.bytes());
        device.copy(aux_first.data(), own_aux.data(), own_aux.bytes());
      } else {
        device.clear(differ.data(), sizeof(int));
        compare(d, d_first);
        compare(own_aux, aux_first);
        int differs = 0;
        device.download(&differs, differ.data(), sizeof differs);
        if (differs) continue;
      }
      const float time = std::min(run(choice), run(choice));  // the first run is not counted
      if (first || time < least) {
        least = time;
        best.algorithm = choice.algorithm;
      }
    }
    return best;
  }

  cublasStatus_t multiply(const Shape& s, const cublasLtMatmulAlgo_t& algorithm, const void* a,
                          const void* b, const void* c, void* d, const void* bias,
                          const void* aux) {
    const Description description(s, bias, aux);
    const Layouts of(s);
    const float alpha = 1, beta = s.add ? 1 : 0;
    return cublasLtMatmul(handle, description.handle, &alpha, a, of.a.handle, b, of.b.handle, &beta,
                          c, of.d.handle, d, of.d.handle, &algorithm, workspace.data(),
                          workspace.size(), device.stream());
  }

  // False where the library has no algorithm (an epilogue that it lacks).
  bool run(const char* name, const Shape& s, bool rows_are_n, const void* a, const void* b,
           const void* c, void* d, const void* bias, const void* aux) {
    const auto key =
        std::make_tuple(s.transpose_a, s.transpose_b, s.m, rows_are_n ? 0 : s.n,
                        rows_are_n ? s.k : 0, s.operand, s.result, s.epilogue, s.add, s.parts > 1);
    auto at = choices.find(key);
    if (at == choices.end()) {
      const std::int64_t most_sum =
          s.operand == CUDA_R_32F ? kProductRows<float> : kProductRows<bf16>;
      Shape most = s;
      if (rows_are_n) {
        most.n = most_rows;
      } else {
        most.k = std::min(most_rows, most_sum);
      }
      if (s.parts > 1) {
        most.parts =
            static_cast<int>(std::clamp<std::int64_t>(most_rows / most_sum, 2, kProductParts));
      }
      at = choices.emplace(key, choose(most, rows_are_n, bias, aux)).first;
    }
    const Choice& choice = at->second;
    if (!choice.found) return false;
    device.before(name);
    cublasStatus_t status = multiply(s, choice.algorithm, a, b, c, d, bias, aux);
    if (status != CUBLAS_STATUS_SUCCESS) status = multiply(s, choice.first, a, b, c, d, bias, aux);
    if (status != CUBLAS_STATUS_SUCCESS) {
      // The algorithm for most_rows does not take so few.
      const std::vector<Choice> own = proposals(s, bias, aux, 1);
      if (!own.empty()) status = multiply(s, own[0].first, a, b, c, d, bias, aux);
    }
    device.after(name);
    check(status, name);
    return true;
  }

  Device& device;
  const std::int64_t most_rows;
  const bool measured;
  const std::int64_t aligned;
  Array<unsigned char> workspace;
  cublasLtHandle_t handle = nullptr;
  using Key = std::tuple<bool, bool, std::int64_t, std::int64_t, std::int64_t, cudaDataType_t,
                         cudaDataType_t, cublasLtEpilogue_t, bool, bool>;
  std::map<Key, Choice> choices;
};

Products::Products(Device& device, std::int64_t most_rows, bool measured, std::int64_t aligned)
    : impl_(std::make_unique<Impl>(device, most_rows, measured, aligned)) {}
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
                              Maybe<E> keep, E* dx, bool add) {
  const char* name = "product_backward";
  Shape s{false, false, in, n, out, in, out, in, kType<E>, kType<E>, CUBLASLT_EPILOGUE_DGELU,
          add,   false};
  if (keep && impl_->run(name, s, true, w, dy, dx, dx, nullptr, keep)) return;
  s.epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  if (!impl_->run(name, s, true, w, dy, dx, dx, nullptr, nullptr)) no_algorithm(name);
  if (keep) gelu_backward(impl_->device, n * in, keep, dx, dx);
}

template <class E>
void Products::backward_weight(std::int64_t n, int in, int out, const E* x, const E* dy,
                               float* dw) {
  const char* name = "product_weight";
  const auto of_parts = [&](std::int64_t first, std::int64_t parts, std::int64_t rows) {
    if (parts == 0 || rows == 0) return;
    const std::int64_t row = first * kProductRows<E>;
    float* const to = dw + first * in * out;
    Shape s{
        false, true, in, out, rows, in, out, in, kType<E>, CUDA_R_32F, CUBLASLT_EPILOGUE_DEFAULT,
        false, true};
    s.parts = static_cast<int>(parts);
    if (!impl_->run(name, s, false, x + row * in, dy + row * out, to, to, nullptr, nullptr)) {
      no_algorithm(name);
    }
  };
  const std::int64_t whole = n / kProductRows<E>;
  of_parts(0, whole, kProductRows<E>);
  of_parts(whole, 1, n % kProductRows<E>);
}

#define M5_INSTANTIATE(E)                                                                         \
  template void Products::forward<E>(std::int64_t, int, int, const E*, const E*, const E*,        \
                                     const E*, E*);                                               \
  template void Products::forward_gelu<E>(std::int64_t, int, int, const E*, const E*, const E*,   \
                                          E*, E*);                                                \
  template void Products::backward_input<E>(std::int64_t, int, int, const E*, const E*, const E*, \
                                            E*, bool);                                            \
  template void Products::backward_weight<E>(std::int64_t, int, int, const E*, const E*, float*);
M5_INSTANTIATE(float)
M5_INSTANTIATE(bf16)
#undef M5_INSTANTIATE

}  // namespace m5::kernels::cuda
