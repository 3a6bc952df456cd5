// Numbers as text: the same bytes in every locale.
#pragma once

#include <string>

namespace m5 {

// Appends `value` with `digits` decimals; never "-0.00". The value must be finite.
void append_fixed(std::string& text, double value, int digits);
// Appends the shortest decimal that reads back as the same float.
void append_shortest(std::string& text, float value);
void append_integer(std::string& text, long long value);

}  // namespace m5
