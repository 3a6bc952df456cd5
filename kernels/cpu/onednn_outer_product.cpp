// dW of a linear layer by oneDNN.
#include <algorithm>
#include <array>
#include <map>
#include <mutex>
#include <vector>

#include "base/hold_signals.hpp"
#include "kernels/cpu/onednn.hpp"
#include "kernels/cpu/onednn_matmul.hpp"
#include "kernels/cpu/onednn_operands.hpp"
#include "m5/error.hpp"

namespace m5::kernels {

using namespace onednn;
using dnnl::memory;

namespace {

// dW[out][in] += dy^T x of bf16 operands with fp32 sums, by rows of a block, in steps of kRowStep.
class OuterProduct {
 public:
  OuterProduct(int in, int out, int rows)
      : in_(in),
        out_(out),
        rows_(rows),
        convert_x_(rows_to_bf16(rows, in, in)),
        convert_dy_(rows_to_bf16(rows, out, out)) {
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

}  // namespace m5::kernels
