// Numbers as text: the same bytes in every locale.
#pragma once

#include <cstddef>
#include <string>

namespace m5 {

// Most bytes of a number with up to 17 decimals: the greatest double has 309 digits before them.
inline constexpr std::size_t kNumberBytes = 352;

// Writes `value` with `digits` (0 to 17) decimals at `to`, which has room for kNumberBytes; never
// "-0.00". The value must be finite. Returns the end of the text.
char* write_fixed(char* to, double value, int digits);
char* write_integer(char* to, long long value);

// The same, at the end of `text`.
void append_fixed(std::string& text, double value, int digits);
void append_integer(std::string& text, long long value);
// Appends the shortest decimal that reads back as the same float.
void append_shortest(std::string& text, float value);

}  // namespace m5
