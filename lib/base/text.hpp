// Text that came from outside: UTF-8, or what claims to be.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace m5 {

struct CodePoint {
  std::uint32_t value = 0;
  bool valid = false;  // false: a byte that is no UTF-8, which stands for itself
};

// The code point at text[at], at < text.size(); `at` moves on behind it.
CodePoint next_code_point(std::string_view text, std::size_t& at);

// As one line that a terminal can be given: line ends become blanks, other control characters (C0,
// DEL, C1) and bytes that are no UTF-8 become \xNN, and the middle of a very long text is left out.
std::string printable(std::string_view text);

// 1234567 -> "1,234,567".
std::string with_commas(std::int64_t value);

}  // namespace m5
