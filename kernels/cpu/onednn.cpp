#include "kernels/cpu/onednn.hpp"

#include <algorithm>
#include <deque>
#include <dnnl.hpp>
#include <limits>
#include <map>
#include <mutex>
#include <string_view>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "kernels/cpu/onednn_matmul.hpp"
#include "kernels/cpu/onednn_operands.hpp"

// oneDNN's OpenMP runtime comes with it, or not at all (builds on TBB or without threads).
extern "C" __attribute__((weak)) void omp_set_num_threads(int);
extern "C" __attribute__((weak)) int omp_get_max_threads();

namespace m5::kernels {

namespace {

using namespace onednn;
using dnnl::memory;
using Dims = memory::dims;
using Type = memory::data_type;
using Tag = memory::format_tag;
using Then = Backend<float>::Then;

#if DNNL_VERSION_MAJOR >= 3
constexpr dnnl::cpu_isa kEveryIsa = dnnl::cpu_isa::isa_default;
#else
constexpr dnnl::cpu_isa kEveryIsa = dnnl::cpu_isa::all;
#endif

bool onednn_has_amx() {
#if defined(__x86_64__)
  const auto isa = static_cast<unsigned>(dnnl::get_effective_cpu_isa());
  const auto amx = static_cast<unsigned>(dnnl::cpu_isa::avx512_core_amx);
  return (isa & amx) == amx;
#else
  return false;
#endif
}

// Operands of bf16 as they are, where the CPU multiplies them; elsewhere as rounded fp32: the same
// products and sums of fp32, at the speed of fp32 instead of that of oneDNN's emulation.
enum class Operands { kFp32, kBf16, kRounded };

// What is done with the sums of a product: added to what is there, with a bias, and then gelu.
struct Epilogue {
  bool add, bias, gelu;
};

// y[M][out] = x[M][in] B[in][out], one packed B and a primitive for each M and epilogue. Rows of x
// are `stride` numbers apart: `in`, or more where operands are kBf16.
class Product {
 public:
  Product(int in, int out, int stride, Operands operands)
      : in_(in), out_(out), stride_(stride), operands_(operands) {}

  // weight: the element of `in` and `out` at in * layout[0] + out * layout[1].
  void pack(const float* weight, const Dims& layout) {
    std::lock_guard lock(mutex_);
    const Dims dims = {in_, out_};
    const SpareMemory spare;
    if (!packed_) {
      // The layout a mid-sized block likes best; the other block sizes take it as given.
      const auto pd = descriptor(kPackRows, {}, memory::desc(dims, type(), Tag::any));
      packed_ = memory(pd.weights_desc(), engine());
      const bool brgemm = std::string_view(pd.impl_info_str()).starts_with("brg");
      most_rows_ = brgemm ? std::numeric_limits<int>::max() : kMostGemmRows;
    }
    std::vector<float> rounded;
    if (operands_ == Operands::kRounded) {
      rounded.resize(static_cast<std::size_t>(in_) * static_cast<std::size_t>(out_));
      round_to_bf16(static_cast<std::int64_t>(rounded.size()), weight, rounded.data());
      weight = rounded.data();
    }
    memory source({dims, Type::f32, layout}, engine(), const_cast<float*>(weight));
    dnnl::reorder(source, packed_).execute(stream(), source, packed_);
    stream().wait();
  }

  void run(int n, const float* x, float* y, const float* bias, Epilogue then) const {
    const int rows = (n + kRowStep - 1) / kRowStep * kRowStep;
    for (int start = 0; start < rows; start += most_rows_) {
      run_rows(std::min(most_rows_, rows - start), x + std::int64_t{start} * stride_,
               y + std::int64_t{start} * out_, bias, then);
      if (rows - start <= most_rows_) break;
    }
  }

 private:
  static constexpr int kPackRows = 256;
  struct Entry {
    SafeMatmul product;
    dnnl::reorder convert;  // fp32 rows to bf16
    std::size_t scratch_bytes = 0;
  };

  void run_rows(int rows, const float* x, float* y, const float* bias, Epilogue then) const {
    const Entry& entry = find(rows, then);
    memory source;
    if (operands_ == Operands::kFp32) {
      source = operand(Role::kSource, rows, in_, x);
    } else {
      const std::size_t count = static_cast<std::size_t>(rows) * static_cast<std::size_t>(in_);
      const bool narrow = operands_ == Operands::kBf16;
      void* const space = thread_bytes(1, count * (narrow ? 2 : sizeof(float))).data();
      source = operand(narrow ? Role::kNarrow : Role::kSource, rows, in_, space);
      if (narrow) {
        const memory wide = operand(Role::kWide, rows, in_, x, stride_);
        entry.convert.execute(stream(), {{DNNL_ARG_FROM, wide}, {DNNL_ARG_TO, source}});
      } else {
        round_to_bf16(static_cast<std::int64_t>(count), x, static_cast<float*>(space));
      }
    }
    std::unordered_map<int, memory> args = {
        {DNNL_ARG_SRC, source},
        {DNNL_ARG_WEIGHTS, packed_},
        {DNNL_ARG_DST, operand(Role::kResult, rows, out_, y)},
        {DNNL_ARG_SCRATCHPAD, scratchpad(0, entry.scratch_bytes)}};
    if (then.bias) args.emplace(DNNL_ARG_BIAS, operand(Role::kBias, 1, out_, bias));
    entry.product.execute(args);
  }

  Type type() const { return operands_ == Operands::kBf16 ? Type::bf16 : Type::f32; }

  dnnl::matmul::primitive_desc descriptor(int rows, Epilogue then,
                                          const memory::desc& weights) const {
    dnnl::post_ops ops;
    if (then.add) append_sum(ops);
    if (then.gelu) append_gelu(ops);
    dnnl::primitive_attr attr;
    attr.set_post_ops(ops);
    attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    const memory::desc bias =
        then.bias ? memory::desc({1, out_}, Type::f32, Tag::ab) : memory::desc();
    return matmul_desc({{rows, in_}, type(), Tag::ab}, weights, bias,
                       {{rows, out_}, Type::f32, Tag::ab}, attr);
  }

  const Entry& find(int rows, Epilogue then) const {
    std::lock_guard lock(mutex_);
    const std::tuple key = {rows, then.add, then.bias, then.gelu};
    auto at = entries_.find(key);
    if (at == entries_.end()) {
      const SpareMemory spare;
      Entry entry;
      const auto pd = descriptor(rows, then, packed_.get_desc());
      entry.product = SafeMatmul(pd);
      entry.scratch_bytes = pd.scratchpad_desc().get_size();
      if (operands_ == Operands::kBf16) entry.convert = rows_to_bf16(rows, in_, stride_);
      at = entries_.emplace(key, std::move(entry)).first;
    }
    return at->second;  // std::map: references stay valid
  }

  const int in_, out_, stride_;
  const Operands operands_;
  // Of one call. The gemm kernels choose by the number of rows whether they copy their operands,
  // and with that the order of their sums: where rows are few it does not depend on them. Those for
  // other processors than x86 choose at any number, so that all calls have one number of rows.
#ifdef __x86_64__
  static constexpr int kMostGemmRows = kRunRows;
#else
  static constexpr int kMostGemmRows = kRowStep;
#endif
  int most_rows_ = kMostGemmRows;
  memory packed_;
  mutable std::mutex mutex_;
  mutable std::map<std::tuple<int, bool, bool, bool>, Entry> entries_;
};

// x B + bias of any number of columns. Where the products are those of AMX, their sums are added up
// from products of kMostColumns: of longer ones oneDNN chooses by the number of rows which parts of
// a sum it adds first (2.6.3: from 1,024 columns on).
class LongProduct {
 public:
  LongProduct(int in, int out, Operands operands)
      : in_(in),
        out_(out),
        columns_(operands == Operands::kBf16 && onednn_has_amx() ? kMostColumns : in) {
    for (int first = 0; first < in; first += columns_) {
      products_.emplace_back(std::min(columns_, in - first), out, in, operands);
    }
  }

  // weight: B [in][out], or its transpose [out][in].
  void pack(const float* weight, bool transposed, const float* bias) {
    const Dims layout = transposed ? Dims{1, in_} : Dims{out_, 1};
    std::int64_t first = 0;
    for (Product& product : products_) {
      product.pack(weight + first * layout[0], layout);
      first += columns_;
    }
    bias_.assign(bias, bias ? bias + out_ : bias);
  }

  void run(int n, const float* x, float* y, Then then) const {
    std::int64_t first = 0;
    for (const Product& product : products_) {
      const bool last = first + columns_ >= in_;
      product.run(n, x + first, y, bias_.data(),
                  {.add = first > 0 || then == Then::kAdd,
                   .bias = last && !bias_.empty(),
                   .gelu = last && then == Then::kGelu});
      first += columns_;
    }
  }

 private:
  static constexpr int kMostColumns = 512;
  const int in_, out_, columns_;  // of a product, but for the last one
  std::deque<Product> products_;  // which do not move
  std::vector<float> bias_;
};

}  // namespace

struct OneDnnLinear::Impl {
  Impl(int in_, int out_, bool backward, Operands operands)
      : in(in_), out(out_), forward(in_, out_, operands) {
    if (backward) backward_product = std::make_unique<LongProduct>(out_, in_, operands);
  }
  int in, out;
  LongProduct forward;                            // x W^T
  std::unique_ptr<LongProduct> backward_product;  // dy W
};

OneDnnLinear::OneDnnLinear(int in, int out, bool backward, bool bf16)
    : impl_(std::make_unique<Impl>(in, out, backward,
                                   !bf16                      ? Operands::kFp32
                                   : onednn_has_native_bf16() ? Operands::kBf16
                                                              : Operands::kRounded)) {}
OneDnnLinear::~OneDnnLinear() = default;

void OneDnnLinear::pack(const float* weight, const float* bias) try {
  const OneThread alone;
  impl_->forward.pack(weight, true, bias);
  if (impl_->backward_product) impl_->backward_product->pack(weight, false, nullptr);
} catch (const dnnl::error& e) {
  fail(e);
}

void OneDnnLinear::forward(int n, const float* x, float* y, Then then) const try {
  impl_->forward.run(n, x, y, then);
} catch (const dnnl::error& e) {
  fail(e);
}

void OneDnnLinear::backward_input(int n, const float* dy, float* dx, bool add) const try {
  impl_->backward_product->run(n, dy, dx, add ? Then::kAdd : Then::kStore);
} catch (const dnnl::error& e) {
  fail(e);
}

OneThread::OneThread() : before_(omp_get_max_threads ? omp_get_max_threads() : 0) {
  if (omp_set_num_threads) omp_set_num_threads(1);
}
OneThread::~OneThread() {
  if (omp_set_num_threads && before_ > 0) omp_set_num_threads(before_);
}

void cap_onednn_isa(const std::string& highway_target) {
  const auto isa = highway_target.starts_with("AVX3") || highway_target.starts_with("AVX10")
                       ? kEveryIsa
                   : highway_target == "AVX2" ? dnnl::cpu_isa::avx2
                                              : dnnl::cpu_isa::sse41;
  // Refused once a primitive exists: then the products stay as they are.
  dnnl::set_max_cpu_isa(isa);
}

bool onednn_has_native_bf16() {
#if defined(__x86_64__)
  const auto isa = static_cast<unsigned>(dnnl::get_effective_cpu_isa());
  const auto bf16 = static_cast<unsigned>(dnnl::cpu_isa::avx512_core_bf16);
  return (isa & bf16) == bf16;
#else
  // Other CPUs have no name in oneDNN: native is what is more than its plain loops.
  static const bool native = [] {
    try {
      const auto desc = [](int rows, int columns, Type type, Tag tag) {
        return memory::desc({rows, columns}, type, tag);
      };
      const auto pd =
          matmul_desc(desc(128, 64, Type::bf16, Tag::ab), desc(64, 64, Type::bf16, Tag::any), {},
                      desc(128, 64, Type::f32, Tag::ab), {});
      return !std::string_view(pd.impl_info_str()).starts_with("ref");
    } catch (const dnnl::error&) {
      return false;
    }
  }();
  return native;
#endif
}

}  // namespace m5::kernels
