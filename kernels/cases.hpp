// THE table of operation cases. One row is an operation of kernels/backend.hpp at one shape with
// its data. It serves three uses: a backend against `ref`, a backward operation against finite
// differences of its forward operation, and the micro-benchmark.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

#include "kernels/backend.hpp"

namespace m5::kernels {

enum class Fill {
  kUniform,  // zero mean, unit variance, times scale
  kTokens,   // 0..6
  kNan,      // an output that must be overwritten everywhere
  kDerived,  // filled by Case::derive
};

// One array of a case.
struct Slot {
  std::string name;
  std::int64_t count = 0;
  Fill fill = Fill::kUniform;
  double scale = 1;
  bool output = false;        // compared after a run; uniform fill: the operation is += or in place
  bool by_row = false;        // an output whose rows depend on the inputs of that row alone
  bool wide = false;          // double whatever T
  bool bf16_operand = false;  // a factor of a product that a bf16 backend rounds
  std::int64_t slack = 0;     // elements behind the array that the operation may read and write
};

struct Case;

// What the arrays of a case begin with. kFloat: every value is exactly a float, so that backends of
// float and double see the same numbers. kBf16: factors of matrix products are rounded to bf16 as
// well (to nearest, ties to even): what a bf16 backend multiplies. kAllBf16: all that is not
// derived or wide is rounded, before the rest is derived from it: what a device has that keeps rows
// in bf16.
enum class Rounding { kNone, kFloat, kBf16, kAllBf16 };
using Values = std::vector<std::vector<double>>;  // by slot
// Depends on the case's shape and slot names alone; the values of n rows begin those of more rows.
Values initial_values(const Case& c, Rounding rounding);

// The arrays of a case in memory of a backend.
template <class T>
class Memory {
 public:
  // misalign: elements by which every array misses its alignment of 64 bytes.
  Memory(const Case& c, Backend<T>& backend, const Values& values, int misalign = 0);

  T* real(int slot) { return static_cast<T*>(data_[static_cast<std::size_t>(slot)]); }
  double* wide(int slot) { return static_cast<double*>(data_[static_cast<std::size_t>(slot)]); }
  std::uint8_t* bytes(int slot) {
    return static_cast<std::uint8_t*>(data_[static_cast<std::size_t>(slot)]);
  }
  std::vector<double> values(int slot) const;
  void set(int slot, std::int64_t i, double value);
  // False when something wrote before or after an array.
  bool fences_stand() const;

 private:
  const std::vector<Slot>* slots_;
  std::vector<Buffer<T, std::uint8_t>> buffers_;
  std::vector<void*> data_;
};

using Run = std::function<void()>;

struct Case {
  std::string operation;  // as in backend.hpp
  std::string shape;      // everything but the number of rows
  std::int64_t rows = 0;  // n
  double flops = 0;       // of one run; multiplications and additions, a division counts as one
  std::vector<Slot> slots;

  // Fills the derived slots from the others.
  std::function<void(Backend<double>& ref, Memory<double>& memory)> derive;
  // What may be done once (packing a weight) is done; the result runs the operation.
  std::function<Run(Backend<float>&, Memory<float>&)> prepare_float;
  std::function<Run(Backend<double>&, Memory<double>&)> prepare_double;

  // Of a backward operation: the sum of its incoming gradient times the forward operation's output.
  std::function<double(Backend<double>&, Memory<double>&)> loss;
  struct Gradient {
    int input, output;  // slots: what a run adds to `output` is d loss / d `input`
  };
  std::vector<Gradient> gradients;

  std::string name() const { return operation + "/" + shape + "/n=" + std::to_string(rows); }
  template <class T>
  Run prepare(Backend<T>& backend, Memory<T>& memory) const {
    if constexpr (std::is_same_v<T, float>) {
      return prepare_float(backend, memory);
    } else {
      return prepare_double(backend, memory);
    }
  }
};

enum class CaseSet {
  kCompare,    // awkward shapes, every operation
  kGradient,   // backward operations, small shapes
  kBenchmark,  // the shapes of the presets, one block of rows
};
std::vector<Case> operation_cases(CaseSet set);

// A shape with its monomials counted and its minimax polynomial.
AttentionShape make_attention_shape(int heads, int value_dim, int order, double bound);

extern template class Memory<float>;
extern template class Memory<double>;

}  // namespace m5::kernels
