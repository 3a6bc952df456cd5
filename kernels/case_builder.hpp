// How the files of the case table write a row. Not for others.
#pragma once

#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "kernels/cases.hpp"

namespace m5::kernels {

using DoubleBackend = Backend<double>;
using DoubleMemory = Memory<double>;

struct Builder {
  Case c;

  Builder(std::string operation, std::string shape, std::int64_t rows, double flops) {
    c.operation = std::move(operation);
    c.shape = std::move(shape);
    c.rows = rows;
    c.flops = flops;
  }
  int add(Slot slot) {
    c.slots.push_back(std::move(slot));
    return static_cast<int>(c.slots.size()) - 1;
  }
  int input(const char* name, std::int64_t count, double scale = 1) {
    return add({.name = name, .count = count, .scale = scale});
  }
  int factor(const char* name, std::int64_t count, double scale = 1) {  // of a matrix product
    return add({.name = name, .count = count, .scale = scale, .bf16_operand = true});
  }
  int derived(const char* name, std::int64_t count) {
    return add({.name = name, .count = count, .fill = Fill::kDerived});
  }
  int tokens(const char* name, std::int64_t count, Fill fill) {
    return add({.name = name, .count = count, .fill = fill});
  }
  int output(const char* name, std::int64_t count, bool by_row) {
    return add(
        {.name = name, .count = count, .fill = Fill::kNan, .output = true, .by_row = by_row});
  }
  int added(const char* name, std::int64_t count, bool by_row, bool wide = false) {
    return add({.name = name, .count = count, .output = true, .by_row = by_row, .wide = wide});
  }
  int workspace(const char* name, std::int64_t count) {
    return add({.name = name, .count = count, .fill = Fill::kNan});
  }
  void slack(int slot, std::int64_t count) {
    c.slots[static_cast<std::size_t>(slot)].slack = count;
  }
  // prepare: (Backend<T>&, Memory<T>&) -> Run
  template <class F>
  void prepare(F f) {
    c.prepare_float = [f](Backend<float>& b, Memory<float>& m) -> Run { return f(b, m); };
    c.prepare_double = [f](Backend<double>& b, Memory<double>& m) -> Run { return f(b, m); };
  }
};

inline std::string text(std::int64_t n) { return std::to_string(n); }

inline double dot(const double* a, const std::vector<double>& b) {
  return std::inner_product(b.begin(), b.end(), a, 0.0);
}

inline std::vector<double> zeros(std::int64_t count) {
  return std::vector<double>(static_cast<std::size_t>(count));
}

inline constexpr int kBenchmarkRows = 256;  // one block of the encoder

void add_linear_cases(CaseSet set, std::vector<Case>& cases);  // linear_cases.cpp
// The operations of the attention (attention_cases.cpp).
void add_attention_cases(CaseSet set, std::vector<Case>& cases);

}  // namespace m5::kernels
