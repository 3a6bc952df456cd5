// JSON from outside: bounded in size, depth and number of values before anything of it is kept, as
// the library that parses it recurses over what it has kept and looks a key up among all others.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace m5 {

inline constexpr std::size_t kLongestJson = std::size_t{1} << 20;  // bytes
inline constexpr int kDeepestJson = 16;                            // objects and arrays in a row
inline constexpr std::size_t kMostJsonValues = 10'000;  // of all kinds, members and elements alike

// `what` names the text in messages: "FILE: config". Throws Error(kModel) for a text that is no
// JSON in UTF-8, names a key twice in one object, or passes one of the bounds above.
nlohmann::ordered_json parse_json(std::string_view text, const std::string& what);

}  // namespace m5
