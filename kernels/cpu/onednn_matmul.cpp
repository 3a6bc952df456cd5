#include "kernels/cpu/onednn_matmul.hpp"

#include <algorithm>
#include <optional>
#include <string>
#include <string_view>

#include "base/hold_signals.hpp"
#include "kernels/cpu/bf16.hpp"
#include "kernels/cpu/onednn_operands.hpp"
#include "m5/error.hpp"

namespace m5::kernels::onednn {

using dnnl::memory;

void fail(const dnnl::error& e) {
  if (e.status == dnnl_out_of_memory) throw Error(ErrorKind::kResource, "oneDNN: out of memory");
  throw Error(ErrorKind::kInternal, std::string("oneDNN: ") + e.what());
}

#if DNNL_VERSION_MAJOR >= 3
void append_gelu(dnnl::post_ops& ops) {
  ops.append_eltwise(dnnl::algorithm::eltwise_gelu_tanh, 0.f, 0.f);
}
void append_sum(dnnl::post_ops& ops) { ops.append_sum(1.f); }
#else
void append_gelu(dnnl::post_ops& ops) {
  ops.append_eltwise(1.f, dnnl::algorithm::eltwise_gelu_tanh, 0.f, 0.f);
}
void append_sum(dnnl::post_ops& ops) { ops.append_sum(1.f); }
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

void round_to_bf16(std::int64_t count, const float* from, float* to) {
  std::transform(from, from + count, to, [](float x) { return bf16_value(bf16_bits(x)); });
}

dnnl::reorder rows_to_bf16(int rows, int columns, int stride) {
  const memory wide(desc_of(Role::kWide, rows, columns, stride), engine(), nullptr);
  const memory narrow(desc_of(Role::kNarrow, rows, columns), engine(), nullptr);
  return {wide, narrow};
}

SafeMatmul::SafeMatmul(const dnnl::matmul::primitive_desc& desc)
    : primitive_(desc),
      keeps_stack_pointer_(std::string_view(desc.impl_info_str()).starts_with("brg")) {}

void SafeMatmul::execute(const std::unordered_map<int, memory>& args) const {
  std::optional<HoldSignals> hold;
  if (!keeps_stack_pointer_) hold.emplace();
  primitive_.execute(stream(), args);
  stream().wait();
}

}  // namespace m5::kernels::onednn
