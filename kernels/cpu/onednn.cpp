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
#include "m5/error.hpp"

// oneDNN's OpenMP runtime comes with it, or not at all (builds on TBB or without threads).
extern "C" __attribute__((weak)) void omp_set_num_threads(int);
extern "C" __attribute__((weak)) int omp_get_max_threads();

namespace m5::kernels {

namespace {

using dnnl::memory;
using Dims = memory::dims;
using Type = memory::data_type;
using Tag = memory::format_tag;
using Then = Backend<float>::Then;

const dnnl::engine& engine() {
  static const dnnl::engine cpu(dnnl::engine::kind::cpu, 0);
  return cpu;
}

dnnl::stream& stream() {
  thread_local dnnl::stream mine(engine());
  return mine;
}

// Memory of the calling thread: scratchpads and converted operands.
std::vector<std::uint8_t>& thread_bytes(int slot, std::size_t bytes) {
  thread_local std::array<std::vector<std::uint8_t>, 3> slots;
  auto& buffer = slots[static_cast<std::size_t>(slot)];
  if (buffer.size() < bytes) buffer.resize(bytes);
  return buffer;
}

[[noreturn]] void fail(const dnnl::error& e) {
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
    if (!packed_) {
      // The layout a mid-sized block likes best; the other block sizes take it as given.
      const auto pd = descriptor(kPackRows, Then::kStore, bias != nullptr,
                                 memory::desc(dims, type(), Tag::any));
      packed_ = memory(pd.weights_desc(), engine());
      const bool brgemm = std::string_view(pd.impl_info_str()).starts_with("brg");
      most_rows_ = brgemm ? std::numeric_limits<int>::max() : kRunRows;
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
    memory::desc scratch;
  };

  void run_rows(int rows, const float* x, float* y, Then then) const {
    const Entry& entry = find(rows, then);
    const memory::desc src_desc({rows, in_}, type(), Tag::ab);
    memory src(src_desc, engine(), const_cast<float*>(x));
    if (operands_ != Operands::kFp32) {
      src = memory(src_desc, engine(), thread_bytes(1, src_desc.get_size()).data());
    }
    if (operands_ == Operands::kBf16) {
      memory wide({{rows, in_}, Type::f32, Tag::ab}, engine(), const_cast<float*>(x));
      entry.convert.execute(stream(), {{DNNL_ARG_FROM, wide}, {DNNL_ARG_TO, src}});
    } else if (operands_ == Operands::kRounded) {
      round_to_bf16(static_cast<std::int64_t>(rows) * in_, x,
                    static_cast<float*>(src.get_data_handle()));
    }
    memory dst({{rows, out_}, Type::f32, Tag::ab}, engine(), y);
    memory scratch(entry.scratch, engine(), thread_bytes(0, entry.scratch.get_size() + 1).data());
    std::unordered_map<int, memory> args = {{DNNL_ARG_SRC, src},
                                            {DNNL_ARG_WEIGHTS, packed_},
                                            {DNNL_ARG_DST, dst},
                                            {DNNL_ARG_SCRATCHPAD, scratch}};
    if (!bias_.empty()) {
      args.emplace(DNNL_ARG_BIAS, memory({{1, out_}, Type::f32, Tag::ab}, engine(),
                                         const_cast<float*>(bias_.data())));
    }
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
    auto [at, fresh] = entries_.try_emplace({rows, static_cast<int>(then)});
    if (fresh) {
      const auto pd = descriptor(rows, then, !bias_.empty(), packed_.get_desc());
      at->second = {SafeMatmul(pd), {}, pd.scratchpad_desc()};
      if (operands_ == Operands::kBf16) at->second.convert = rows_to_bf16(rows, in_);
    }
    return at->second;  // std::map: references stay valid
  }

  const int in_, out_;
  const Operands operands_;
  // Of one call. The gemm kernels choose by the number of rows whether they copy their operands,
  // and with that the order of their sums: where rows are few it does not depend on them.
  int most_rows_ = kRunRows;
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
    const auto pd = matmul_desc(dy_desc(), x_desc(), {}, dw_desc(), attr);
    product_ = SafeMatmul(pd);
    scratch_ = pd.scratchpad_desc();
  }

  void run(int n, const float* x, const float* dy, float* d_weight) const {
    memory narrow_x = narrow(0, n, in_, x, convert_x_, x_desc());
    memory narrow_dy = narrow(1, n, out_, dy, convert_dy_, dy_desc());
    memory dw(dw_desc(), engine(), d_weight);
    memory scratch(scratch_, engine(), thread_bytes(2, scratch_.get_size() + 1).data());
    product_.execute({{DNNL_ARG_SRC, narrow_dy},
                      {DNNL_ARG_WEIGHTS, narrow_x},
                      {DNNL_ARG_DST, dw},
                      {DNNL_ARG_SCRATCHPAD, scratch}});
  }

 private:
  memory::desc x_desc() const { return {{rows_, in_}, Type::bf16, Tag::ab}; }
  memory::desc dy_desc() const { return {{out_, rows_}, Type::bf16, Tag::ba}; }  // dy transposed
  memory::desc dw_desc() const { return {{out_, in_}, Type::f32, Tag::ab}; }

  // The n rows of `from` in bf16, rows of zeros behind them.
  memory narrow(int slot, int n, int columns, const float* from, const dnnl::reorder& convert,
                const memory::desc& desc) const {
    if (n < rows_) {
      const auto count = static_cast<std::size_t>(n) * static_cast<std::size_t>(columns);
      const auto room = static_cast<std::size_t>(rows_) * static_cast<std::size_t>(columns);
      auto* padded = reinterpret_cast<float*>(thread_bytes(2, room * sizeof(float)).data());
      std::copy_n(from, count, padded);
      std::fill_n(padded + count, room - count, 0.0f);
      from = padded;
    }
    const memory::desc narrow_rows({rows_, columns}, Type::bf16, Tag::ab);
    memory wide({{rows_, columns}, Type::f32, Tag::ab}, engine(), const_cast<float*>(from));
    memory rows(narrow_rows, engine(), thread_bytes(slot, desc.get_size()).data());
    convert.execute(stream(), wide, rows);
    return {desc, engine(), rows.get_data_handle()};
  }

  const int in_, out_, rows_;
  const dnnl::reorder convert_x_, convert_dy_;
  SafeMatmul product_;
  memory::desc scratch_;
};

const OuterProduct& find_outer_product(int in, int out, int rows) {
  static std::mutex mutex;
  static std::map<std::array<int, 3>, OuterProduct> products;
  std::lock_guard lock(mutex);
  return products.try_emplace({in, out, rows}, in, out, rows)
      .first->second;  // references stay valid
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
  if (dnnl_sgemm('T', 'N', out, in, n, 1.0f, dy, out, x, in, 1.0f, d_weight, in) != dnnl_success) {
    throw Error(ErrorKind::kInternal, "oneDNN: sgemm failed");
  }
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

std::string onednn_version() {
  const dnnl_version_t* v = dnnl_version();
  return std::to_string(v->major) + "." + std::to_string(v->minor) + "." + std::to_string(v->patch);
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
