// The residual stream of a batch: [rows][dim], kept in T or, to halve its memory, in bf16.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

#include "kernels/backend.hpp"

namespace m5::kernels {

template <class T>
class RowStore {
 public:
  RowStore() = default;
  RowStore(Backend<T>& backend, std::int64_t rows, std::int64_t dim, bool bf16)
      : backend_(&backend), dim_(dim) {
    const auto count = static_cast<std::size_t>(rows * dim);
    if (bf16) {
      narrow_ = Buffer<T, std::uint16_t>(backend, count);
    } else {
      wide_ = Buffer<T>(backend, count);
    }
  }

  void load(std::int64_t row, std::int64_t n, T* out) const {
    if (narrow_.data()) {
      backend_->from_bf16(n * dim_, narrow_.data() + row * dim_, out);
    } else {
      std::copy_n(wide_.data() + row * dim_, n * dim_, out);
    }
  }
  // Rows to read only: where they are, or copied to `space`.
  const T* read(std::int64_t row, std::int64_t n, T* space) const {
    if (!narrow_.data()) return wide_.data() + row * dim_;
    load(row, n, space);
    return space;
  }
  void store(std::int64_t row, std::int64_t n, const T* x) {
    if (narrow_.data()) {
      backend_->to_bf16(n * dim_, x, narrow_.data() + row * dim_);
    } else {
      std::copy_n(x, n * dim_, wide_.data() + row * dim_);
    }
  }
  void gather(std::span<const std::int64_t> rows, T* out) const {
    for (std::size_t i = 0; i < rows.size(); ++i) {
      load(rows[i], 1, out + static_cast<std::int64_t>(i) * dim_);
    }
  }
  // In T only: the rows themselves.
  T* data() { return wide_.data(); }
  const T* data() const { return wide_.data(); }

 private:
  Backend<T>* backend_ = nullptr;
  std::int64_t dim_ = 0;
  Buffer<T> wide_;
  Buffer<T, std::uint16_t> narrow_;
};

}  // namespace m5::kernels
