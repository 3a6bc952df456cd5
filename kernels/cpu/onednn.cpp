#include "kernels/cpu/onednn.hpp"

#include <algorithm>
#include <array>
#include <dnnl.hpp>
#include <limits>
#include <map>
#include <mutex>
#include <optional>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/hold_signals.hpp"
#include "kernels/cpu/bf16.hpp"
#include "kernels/cpu/onednn_operands.hpp"
#include "m5/error.hpp"

// oneDNN's OpenMP runtime comes with it, or not at all (builds on TBB or without threads).
extern "C" __attribute__((weak)) void omp_set_num_threads(int);
extern "C" __attribute__((weak)) int omp_get_max_threads();

namespace m5::kernels {

namespace {

using dnnl::memory;
using onednn::desc_of;
using onednn::engine;
using onednn::operand;
using onednn::Role;
using onednn::scratchpad;
using onednn::SpareMemory;
using onednn::stream;
using onednn::thread_bytes;
using Dims = memory::dims;
using Type = memory::data_type;
using Tag = memory::format_tag;
using Then = Backend<float>::Then;

[[noreturn]] void fail(const dnnl::error& e) {
  if (e.status == dnnl_out_of_memory) throw Error(ErrorKind::kResource, "oneDNN: out of memory");
  throw Error(ErrorKind::kInternal, std::string("oneDNN: ") + e.what());
}

#if DNNL_VERSION_MAJOR >= 3
void append_gelu(dnnl::post_ops& ops) {
  ops.append_eltwise(dnnl::algorithm::eltwise_gelu_tanh, 0.f, 0.f);
}
void append_sum(dnnl::post_ops& ops) { ops.append_sum(1.f); }
constexpr dnnl::cpu_isa kEveryIsa = dnnl::cpu_isa::isa_default;
#else
void append_gelu(dnnl::post_ops& ops) {
  ops.append_eltwise(1.f, dnnl::algorithm::eltwise_gelu_tanh, 0.f, 0.f);
}
void append_sum(dnnl::post_ops& ops) { ops.append_sum(1.f); }
constexpr dnnl::cpu_isa kEveryIsa = dnnl::cpu_isa::all;
#endif

dnnl::matmul::primitive_desc matmul_desc(const memory::desc& src, const memory::desc& weights,
                                         const memory::desc& bias, const memory::desc& dst,
                                         const dnnl::primitive_attr& attr) {
#if DNNL_VERSION_MAJOR >= 3
  return bias ? dnnl::matmul::primitive_desc(engine(), src, weights, bias, dst, attr)
              : dnnl::matmul::primitive_desc(engine(), src, weights, dst, attr);
#else
  return bias.is_zero()
             ? dnnl::matmul::primitive_desc(dnnl::matmul::desc(src, weights, dst), attr, engine())
             : dnnl::matmul::primitive_desc(dnnl::matmul::desc(src, weights, bias, dst), attr,
                                            engine());
#endif
}

// to[i] = from[i] rounded to bf16, to nearest, ties to even. NaN stays NaN.
void round_to_bf16(std::int64_t count, const float* from, float* to) {
  std::transform(from, from + count, to, [](float x) { return bf16_value(bf16_bits(x)); });
}

// Rows of fp32 to bf16.
dnnl::reorder rows_to_bf16(int rows, int columns) {
  const memory wide({{rows, columns}, Type::f32, Tag::ab}, engine(), nullptr);
  const memory narrow({{rows, columns}, Type::bf16, Tag::ab}, engine(), nullptr);
  return {wide, narrow};
}

// oneDNN's generated gemm kernels use the stack pointer as a general register (all releases before
// 3.11.2, oneDNN issue 4845): a signal handler that runs meanwhile writes its frame over the heap.
// So signals are held around them. The brgemm kernels need that not.
class SafeMatmul {
 public:
  SafeMatmul() = default;
  explicit SafeMatmul(const dnnl::matmul::primitive_desc& desc)
      : primitive_(desc),
        keeps_stack_pointer_(std::string_view(desc.impl_info_str()).starts_with("brg")) {}

  void execute(const std::unordered_map<int, memory>& args) const {
    std::optional<HoldSignals> hold;
    if (!keeps_stack_pointer_) hold.emplace();
    primitive_.execute(stream(), args);
    stream().wait();
  }

 private:
  dnnl::matmul primitive_;
  bool keeps_stack_pointer_ = false;
};

// Operands of bf16 as they are, where the CPU multiplies them; elsewhere as rounded fp32: the same
// products and sums of fp32, at the speed of fp32 instead of that of oneDNN's emulation.
enum class Operands { kFp32, kBf16, kRounded };

// y[M][out] = x[M][in] B[in][out], one packed B and a primitive for each M and epilogue.
class Product {
 public:
  Product(int in, int out, Operands operands) : in_(in), out_(out), operands_(operands) {}

  void pack(const float* weight, Tag layout, const float* bias) {
    std::lock_guard lock(mutex_);
    const Dims dims = {in_, out_};
    const SpareMemory spare;
    if (!packed_) {
      // The layout a mid-sized block likes best; the other block sizes take it as given.
      const auto pd = descriptor(kPackRows, Then::kStore, bias != nullptr,
                                 memory::desc(dims, type(), Tag::any));
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
    bias_.assign(bias, bias ? bias + out_ : bias);
  }

  void run(int n, const float* x, float* y, Then then) const {
    const int rows = (n + kRowStep - 1) / kRowStep * kRowStep;
    for (int start = 0; start < rows; start += most_rows_) {
      run_rows(std::min(most_rows_, rows - start), x + std::int64_t{start} * in_,
               y + std::int64_t{start} * out_, then);
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

  void run_rows(int rows, const float* x, float* y, Then then) const {
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
        entry.convert.execute(
            stream(), {{DNNL_ARG_FROM, operand(Role::kWide, rows, in_, x)}, {DNNL_ARG_TO, source}});
      } else {
        round_to_bf16(static_cast<std::int64_t>(count), x, static_cast<float*>(space));
      }
    }
    std::unordered_map<int, memory> args = {
        {DNNL_ARG_SRC, source},
        {DNNL_ARG_WEIGHTS, packed_},
        {DNNL_ARG_DST, operand(Role::kResult, rows, out_, y)},
        {DNNL_ARG_SCRATCHPAD, scratchpad(0, entry.scratch_bytes)}};
    if (!bias_.empty()) args.emplace(DNNL_ARG_BIAS, operand(Role::kBias, 1, out_, bias_.data()));
    entry.product.execute(args);
  }

  Type type() const { return operands_ == Operands::kBf16 ? Type::bf16 : Type::f32; }

  dnnl::matmul::primitive_desc descriptor(int rows, Then then, bool with_bias,
                                          const memory::desc& weights) const {
    dnnl::post_ops ops;
    if (then == Then::kAdd) append_sum(ops);
    if (then == Then::kGelu) append_gelu(ops);
    dnnl::primitive_attr attr;
    attr.set_post_ops(ops);
    attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    const memory::desc bias =
        with_bias ? memory::desc({1, out_}, Type::f32, Tag::ab) : memory::desc();
    return matmul_desc({{rows, in_}, type(), Tag::ab}, weights, bias,
                       {{rows, out_}, Type::f32, Tag::ab}, attr);
  }

  const Entry& find(int rows, Then then) const {
    std::lock_guard lock(mutex_);
    const std::pair<int, int> key = {rows, static_cast<int>(then)};
    auto at = entries_.find(key);
    if (at == entries_.end()) {
      const SpareMemory spare;
      Entry entry;
      const auto pd = descriptor(rows, then, !bias_.empty(), packed_.get_desc());
      entry.product = SafeMatmul(pd);
      entry.scratch_bytes = pd.scratchpad_desc().get_size();
      if (operands_ == Operands::kBf16) entry.convert = rows_to_bf16(rows, in_);
      at = entries_.emplace(key, std::move(entry)).first;
    }
    return at->second;  // std::map: references stay valid
  }

  const int in_, out_;
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
  std::vector<float> bias_;
  mutable std::mutex mutex_;
  mutable std::map<std::pair<int, int>, Entry> entries_;
};

}  // namespace

struct OneDnnLinear::Impl {
  Impl(int in_, int out_, bool backward, Operands operands)
      : in(in_), out(out_), forward(in_, out_, operands) {
    if (backward) backward_product = std::make_unique<Product>(out_, in_, operands);
  }
  int in, out;
  Product forward;                            // x W^T
  std::unique_ptr<Product> backward_product;  // dy W
};

OneDnnLinear::OneDnnLinear(int in, int out, bool backward, bool bf16)
    : impl_(std::make_unique<Impl>(in, out, backward,
                                   !bf16                      ? Operands::kFp32
                                   : onednn_has_native_bf16() ? Operands::kBf16
                                                              : Operands::kRounded)) {}
OneDnnLinear::~OneDnnLinear() = default;

void OneDnnLinear::pack(const float* weight, const float* bias) try {
  const OneThread alone;
  impl_->forward.pack(weight, Tag::ba, bias);  // W[out][in] read as its transpose
  if (impl_->backward_product) impl_->backward_product->pack(weight, Tag::ab, nullptr);
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

namespace {

// dW[out][in] += dy^T x of bf16 operands with fp32 sums, by rows of a block, in steps of kRowStep.
class OuterProduct {
 public:
  OuterProduct(int in, int out, int rows)
      : in_(in),
        out_(out),
        rows_(rows),
        convert_x_(rows_to_bf16(rows, in)),
        convert_dy_(rows_to_bf16(rows, out)) {
    dnnl::post_ops ops;
    append_sum(ops);
    dnnl::primitive_attr attr;
    attr.set_post_ops(ops);
    attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    const auto pd =
        matmul_desc(desc_of(Role::kTransposed, out, rows), desc_of(Role::kOther, rows, in), {},
                    desc_of(Role::kResult, out, in), attr);
    product_ = SafeMatmul(pd);
    scratch_bytes_ = pd.scratchpad_desc().get_size();
  }

  void run(int n, const float* x, const float* dy, float* d_weight) const {
    const memory narrow_x = operand(Role::kOther, rows_, in_, narrow(0, n, in_, x, convert_x_));
    const memory narrow_dy =
        operand(Role::kTransposed, out_, rows_, narrow(1, n, out_, dy, convert_dy_));
    product_.execute({{DNNL_ARG_SRC, narrow_dy},
                      {DNNL_ARG_WEIGHTS, narrow_x},
                      {DNNL_ARG_DST, operand(Role::kResult, out_, in_, d_weight)},
                      {DNNL_ARG_SCRATCHPAD, scratchpad(2, scratch_bytes_)}});
  }

 private:
  // The n rows of `from` in bf16, rows of zeros behind them.
  const void* narrow(int slot, int n, int columns, const float* from,
                     const dnnl::reorder& convert) const {
    const auto room = static_cast<std::size_t>(rows_) * static_cast<std::size_t>(columns);
    if (n < rows_) {
      const auto count = static_cast<std::size_t>(n) * static_cast<std::size_t>(columns);
      auto* padded = reinterpret_cast<float*>(thread_bytes(2, room * sizeof(float)).data());
      std::copy_n(from, count, padded);
      std::fill_n(padded + count, room - count, 0.0f);
      from = padded;
    }
    void* const space = thread_bytes(slot, room * 2).data();
    convert.execute(stream(), {{DNNL_ARG_FROM, operand(Role::kWide, rows_, columns, from)},
                               {DNNL_ARG_TO, operand(Role::kNarrow, rows_, columns, space)}});
    return space;
  }

  const int in_, out_, rows_;
  const dnnl::reorder convert_x_, convert_dy_;
  SafeMatmul product_;
  std::size_t scratch_bytes_ = 0;
};

const OuterProduct& find_outer_product(int in, int out, int rows) {
  static std::mutex mutex;
  static std::map<std::array<int, 3>, OuterProduct> products;
  std::lock_guard lock(mutex);
  const auto known = products.find({in, out, rows});
  if (known != products.end()) return known->second;
  const SpareMemory spare;
  return products.try_emplace({in, out, rows}, in, out, rows)
      .first->second;  // references stay valid
}

dnnl_status_t sgemm(int in, int out, int n, const float* x, const float* dy, float* d_weight) {
  return dnnl_sgemm('T', 'N', out, in, n, 1.0f, dy, out, x, in, 1.0f, d_weight, in);
}

// The first call makes 6 MB of code, by one thread for all; where that fails for want of memory,
// later calls crash (2.6.3).
dnnl_status_t prepare_sgemm() {
  const SpareMemory spare(std::size_t{16} << 20);
  constexpr int kSize = 64;
  std::vector<float> x(kSize * kSize), dy(x), d_weight(x);
  return sgemm(kSize, kSize, kSize, x.data(), dy.data(), d_weight.data());
}

}  // namespace

void add_outer_product(int in, int out, int n, const float* x, const float* dy, float* d_weight,
                       bool bf16) try {
  if (bf16 && onednn_has_native_bf16()) {
    const int rows = (n + kRowStep - 1) / kRowStep * kRowStep;
    find_outer_product(in, out, rows).run(n, x, dy, d_weight);
    return;
  }
  if (bf16) {
    const auto rounded = [n](int slot, int columns, const float* from) {
      const std::int64_t count = static_cast<std::int64_t>(n) * columns;
      auto& bytes = thread_bytes(slot, static_cast<std::size_t>(count) * sizeof(float));
      auto* to = reinterpret_cast<float*>(bytes.data());
      round_to_bf16(count, from, to);
      return to;
    };
    x = rounded(0, in, x);
    dy = rounded(1, out, dy);
  }
  const HoldSignals hold;  // SafeMatmul says why
  static const dnnl_status_t prepared = prepare_sgemm();
  const dnnl_status_t status =
      prepared == dnnl_success ? sgemm(in, out, n, x, dy, d_weight) : prepared;
  if (status == dnnl_out_of_memory) {
    throw Error(ErrorKind::kResource, "out of memory for a product of matrices");
  }
  if (status != dnnl_success) throw Error(ErrorKind::kInternal, "oneDNN: sgemm failed");
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
