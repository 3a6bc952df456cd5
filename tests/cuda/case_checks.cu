// The case table (kernels/cases.hpp) by the kernels of the CUDA device, against `ref` in double.
//
// Tolerance: that of tests/kernels/case_outputs.hpp. With rows in bf16 all inputs are numbers of
// bf16, so that both compute from the same, and outputs may be as much further away as kRounded
// says: a rounding to bf16 changes a vector by 2^-8 of its size at most, by 2^-9.2 on the average.
#include <cmath>
#include <exception>
#include <iterator>
#include <set>
#include <string>

#include "case_backend.hpp"
#include "case_outputs.hpp"
#include "kernel_checks.hpp"

namespace m5::kernels::cuda {
namespace {

struct Rounded {
  const char* operation;
  const char* slot;
  const char* shape;  // a part of it
  double error;
};
constexpr const char* kTensorCores = ",dv=8,";  // what the table has on them
// Outputs that are not here are sums in fp32.
constexpr Rounded kRounded[] = {
    // Stored once.
    {"embed", "x", "", 0x1p-8},
    {"norm", "y", "", 0x1p-8},
    {"norm_backward", "dx", "", 0x1p-8},
    {"gelu", "y", "", 0x1p-8},
    {"gelu_backward", "dx", "", 0x1p-8},
    {"head_backward", "dh", "", 0x1p-8},
    {"local_conv", "y", "", 0x1p-8},
    {"local_conv", "dx", "", 0x1p-8},
    {"attention_query", "o", "", 0x1p-8},
    // Library and fallback may round the product before they add to it, and before gelu.
    {"linear", "y", "", 0x1p-7},
    {"linear_backward_input", "dx", "", 0x1p-7},
    // Stored before the bound is taken off, which enlarges what lies along the key.
    {"attention_query_backward", "dq", "", 0x1p-7},
    {"attention_accumulate_backward", "d_kv", "", 0x1p-7},
    // Of rounded du, beside a state of 1 in the mean that most of the sum is small to.
    {"attention_query_backward", "d_scaled", "", 0x1p-11},
    // Factors of a monomial, up to 6, and their products are rounded; sums of many less.
    {"attention_accumulate", "state", kTensorCores, 0x1p-7},
    {"attention_query", "weight_sum", kTensorCores, 0x1p-10},
};

double error_of_rounding(const Case& c, const Slot& slot) {
  for (const Rounded& r : kRounded) {
    if (r.operation == c.operation && r.slot == slot.name &&
        c.shape.find(r.shape) != std::string::npos) {
      return r.error;
    }
  }
  return 0;
}

}  // namespace

std::vector<Check> case_checks(Device& device, bool narrow) {
  const auto exact = make_ref_backend<double>();
  const auto plain = make_ref_backend<float>();
  const auto own = narrow ? make_case_backend<bf16>(device) : make_case_backend<float>(device);
  const std::string type = narrow ? ", bf16" : ", fp32";
  std::vector<Check> checks;
  std::set<std::string> listed;
  for (const NotRun& n : kNotRun) listed.insert(n.operation);
  std::set<std::string> left_out;
  for (const Case& c : operation_cases(CaseSet::kCompare)) {
    if (listed.count(c.operation) > 0) {
      left_out.insert(c.operation);
      continue;
    }
    const Values values = initial_values(c, narrow ? Rounding::kAllBf16 : Rounding::kFloat);
    const Outputs expected = run(c, *exact, values), rounded = run(c, *plain, values);
    try {
      for (const auto& [slot, y] : run(c, *own, values)) {
        const Slot& s = c.slots[static_cast<std::size_t>(slot)];
        checks.push_back({c.name() + " " + s.name + type, relative_error(y, expected.at(slot)),
                          allowed_error(rounded.at(slot), expected.at(slot)) +
                              (narrow ? error_of_rounding(c, s) : 0)});
      }
    } catch (const std::exception& e) {  // also an operation that is neither run nor listed
      checks.push_back({c.name() + type + ": " + e.what(), std::nan(""), 0});
    }
  }
  checks.push_back({"operations in kNotRun that the table does not have",
                    static_cast<double>(std::size(kNotRun) - left_out.size()), 0});
  return checks;
}

}  // namespace m5::kernels::cuda
