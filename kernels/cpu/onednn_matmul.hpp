// Products of oneDNN 2.x and 3.x, and operands rounded to bf16.
#pragma once

#include <cstdint>
#include <dnnl.hpp>
#include <unordered_map>

namespace m5::kernels::onednn {

[[noreturn]] void fail(const dnnl::error& e);

// Adds to what is there, and then gelu.
void append_sum(dnnl::post_ops& ops);
void append_gelu(dnnl::post_ops& ops);

// bias: of no dimensions where there is none.
dnnl::matmul::primitive_desc matmul_desc(const dnnl::memory::desc& src,
                                         const dnnl::memory::desc& weights,
                                         const dnnl::memory::desc& bias,
                                         const dnnl::memory::desc& dst,
                                         const dnnl::primitive_attr& attr);

// to[i] = from[i] rounded to bf16, to nearest, ties to even. NaN stays NaN.
void round_to_bf16(std::int64_t count, const float* from, float* to);

// Rows of fp32, `stride` numbers apart, to bf16.
dnnl::reorder rows_to_bf16(int rows, int columns, int stride);

// oneDNN's generated gemm kernels use the stack pointer as a general register (all releases before
// 3.11.2, oneDNN issue 4845): a signal handler that runs meanwhile writes its frame over the heap.
// So signals are held around them. The brgemm kernels need that not.
class SafeMatmul {
 public:
  SafeMatmul() = default;
  explicit SafeMatmul(const dnnl::matmul::primitive_desc& desc);
  void execute(const std::unordered_map<int, dnnl::memory>& args) const;

 private:
  dnnl::matmul primitive_;
  bool keeps_stack_pointer_ = false;
};

}  // namespace m5::kernels::onednn
