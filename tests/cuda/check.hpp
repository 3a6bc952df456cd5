// One comparison of the CUDA device with an oracle.
#pragma once

#include <string>

namespace m5::kernels::cuda {

struct Check {
  std::string name;
  double error;  // greatest |actual - expected| / greatest |expected|
  double tolerance;
  bool ok() const { return error <= tolerance; }  // not so where it is NaN
};

}  // namespace m5::kernels::cuda
