#include "sinks/number.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <iterator>

namespace m5 {
namespace {

// As std::to_chars writes it, "-0.00" apart.
char* write_any_fixed(char* to, double value, int digits) {
  char* const end =
      std::to_chars(to, to + kNumberBytes, value, std::chars_format::fixed, digits).ptr;
  const bool zero = std::all_of(to + 1, end, [](char c) { return c == '0' || c == '.'; });
  return *to == '-' && zero ? std::copy(to + 1, end, to) : end;
}

}  // namespace

char* write_fixed(char* to, double value, int digits) {
  static constexpr std::int64_t kPower[] = {1,       10,        100,        1000,       10'000,
                                            100'000, 1'000'000, 10'000'000, 100'000'000};
  if (digits >= static_cast<int>(std::size(kPower))) return write_any_fixed(to, value, digits);
  // Below 10^12 the product is rounded by less than 0.0001: an integer within 0.499 of it is the
  // nearest one to the exact product, too.
  const double product = std::fabs(value) * static_cast<double>(kPower[digits]);
  if (!(product < 1e12)) return write_any_fixed(to, value, digits);
  const double above = product + 0.5;
  const auto units = static_cast<std::int64_t>(above);
  if (std::fabs(product - static_cast<double>(units)) > 0.499) {
    return write_any_fixed(to, value, digits);
  }

  if (value < 0 && units > 0) *to++ = '-';
  const std::int64_t whole = units / kPower[digits];
  to = write_integer(to, whole);
  if (digits == 0) return to;
  *to++ = '.';
  auto rest = static_cast<std::uint32_t>(units - whole * kPower[digits]);
  for (int i = digits; i-- > 0; rest /= 10) to[i] = static_cast<char>('0' + rest % 10);
  return to + digits;
}

char* write_integer(char* to, long long value) {
  return std::to_chars(to, to + kNumberBytes, value).ptr;
}

void append_fixed(std::string& text, double value, int digits) {
  char buffer[kNumberBytes];
  text.append(buffer, write_fixed(buffer, value, digits));
}

void append_integer(std::string& text, long long value) {
  char buffer[kNumberBytes];
  text.append(buffer, write_integer(buffer, value));
}

void append_shortest(std::string& text, float value) {
  char buffer[kNumberBytes];
  const auto result = std::to_chars(buffer, buffer + sizeof buffer, value);
  text.append(buffer, result.ptr);
}

}  // namespace m5
