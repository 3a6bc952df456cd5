// Numbers with a fraction from text, the same in every locale.
#pragma once

#include <charconv>

namespace m5 {

// std::from_chars of double and float. libc++ has it from its version 20 on; before, and elsewhere
// where it is missing, this reads what it would read.
std::from_chars_result parse_number(const char* first, const char* last, double& value,
                                    std::chars_format format = std::chars_format::general);
std::from_chars_result parse_number(const char* first, const char* last, float& value,
                                    std::chars_format format = std::chars_format::general);

}  // namespace m5
