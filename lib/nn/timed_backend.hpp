// Where the time of an encoder goes: a backend that passes every operation on to another one and
// adds up the CPU time it takes. Results are those of the other backend.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "kernels/backend.hpp"

namespace m5 {

// CPU time by operation, of all threads together. A result of a timed backend does not depend on
// it.
class OperationTimes {
 public:
  struct Share {
    std::string operation;  // as in kernels/backend.hpp
    double seconds = 0;
  };
  static constexpr int kOperations = 24;

  // The operations that took time since the last reset, in the order of backend.hpp.
  std::vector<Share> shares() const;
  void reset();
  void add(int operation, std::int64_t nanoseconds);  // called by any thread

 private:
  std::array<std::atomic<std::int64_t>, kOperations> nanoseconds_{};
};

// `backend` and `times` must outlive it.
std::unique_ptr<kernels::Backend<float>> make_timed_backend(kernels::Backend<float>& backend,
                                                            OperationTimes& times);

}  // namespace m5
