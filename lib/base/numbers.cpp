#include "base/numbers.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <string>
#include <system_error>
#include <version>
#ifdef __APPLE__
#include <xlocale.h>
#else
#include <locale.h>
#endif

namespace m5 {
// M5_ONLY_POSIX: as where neither Linux nor the newest standard library is, to be tested on Linux
// (tests/checks/check_portable.sh).
#if defined(__cpp_lib_to_chars) && !defined(M5_ONLY_POSIX)

std::from_chars_result parse_number(const char* first, const char* last, double& value,
                                    std::chars_format format) {
  return std::from_chars(first, last, value, format);
}

std::from_chars_result parse_number(const char* first, const char* last, float& value,
                                    std::chars_format format) {
  return std::from_chars(first, last, value, format);
}

#else
namespace {

double convert(const char* text, char** end, locale_t locale, double) {
  return strtod_l(text, end, locale);
}
float convert(const char* text, char** end, locale_t locale, float) {
  return strtof_l(text, end, locale);
}

template <class T>
std::from_chars_result parse(const char* first, const char* last, T& value,
                             std::chars_format format) {
  static const locale_t plain = newlocale(LC_ALL_MASK, "C", nullptr);
  std::string text(first, last);
  // What strtod takes and from_chars does not: blanks, a plus, hexadecimal digits, and an exponent
  // of a fixed number.
  const std::size_t sign = text.starts_with('-') ? 1 : 0;
  const char start = sign < text.size() ? text[sign] : ' ';
  if (start == '+' || start == '-' || std::string(" \t\n\v\f\r").find(start) != std::string::npos)
    return {first, std::errc::invalid_argument};
  std::size_t end_of_number = text.size();
  if (text.size() > sign + 1 && start == '0' && (text[sign + 1] == 'x' || text[sign + 1] == 'X'))
    end_of_number = sign + 1;
  const bool word = start == 'i' || start == 'I' || start == 'n' || start == 'N';
  if (format == std::chars_format::fixed && !word)
    end_of_number = std::min(end_of_number, text.find_first_of("eE"));
  text.resize(std::min(text.size(), end_of_number));
  char* end = nullptr;
  const T read = convert(text.c_str(), &end, plain, T{});
  if (end == text.c_str()) return {first, std::errc::invalid_argument};
  const char* const next = first + (end - text.c_str());
  const bool beyond = !word && std::isinf(read);
  const bool vanished = read == 0 && text.find_first_of("123456789") < text.find_first_of("eE");
  if (beyond || vanished) return {next, std::errc::result_out_of_range};
  value = read;
  return {next, std::errc{}};
}

}  // namespace

std::from_chars_result parse_number(const char* first, const char* last, double& value,
                                    std::chars_format format) {
  return parse(first, last, value, format);
}

std::from_chars_result parse_number(const char* first, const char* last, float& value,
                                    std::chars_format format) {
  return parse(first, last, value, format);
}

#endif
}  // namespace m5
