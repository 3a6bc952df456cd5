#include "sinks/number.hpp"

#include <charconv>

namespace m5 {

void append_fixed(std::string& text, double value, int digits) {
  char buffer[512];  // the greatest double has 309 digits before the point
  const auto result =
      std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::fixed, digits);
  const char* first = buffer;
  if (*first == '-') {
    bool zero = true;
    for (const char* c = first + 1; c != result.ptr; ++c) zero = zero && (*c == '0' || *c == '.');
    if (zero) ++first;
  }
  text.append(first, static_cast<const char*>(result.ptr));
}

void append_shortest(std::string& text, float value) {
  char buffer[64];
  const auto result = std::to_chars(buffer, buffer + sizeof buffer, value);
  text.append(buffer, result.ptr);
}

void append_integer(std::string& text, long long value) {
  char buffer[32];
  const auto result = std::to_chars(buffer, buffer + sizeof buffer, value);
  text.append(buffer, result.ptr);
}

}  // namespace m5
