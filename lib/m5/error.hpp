// The one exception of m5. Thrown anywhere, caught once in tools/main.cpp, printed as one line.
#pragma once

#include <stdexcept>
#include <string>

#include "m5/export.hpp"

namespace m5 {

// The numeric value is the exit code of the process (man m5, EXIT STATUS).
enum class ErrorKind {
  kInternal = 1,
  kUsage = 2,     // wrong option or argument
  kInput = 3,     // sequences, regions or annotation files that break their format
  kModel = 4,     // model or checkpoint file that cannot be trusted or used
  kIo = 5,        // open, read, write, close failed (disk full included)
  kResource = 6,  // memory or device
  kNumeric = 7,   // non-finite value where none may be
};

class M5_API Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, const std::string& message) : std::runtime_error(message), kind_(kind) {}
  ErrorKind kind() const { return kind_; }
  int exit_code() const { return static_cast<int>(kind_); }

 private:
  ErrorKind kind_;
};

}  // namespace m5
