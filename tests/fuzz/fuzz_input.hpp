// What the fuzz targets share.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <initializer_list>
#include <string>

#include "base/log.hpp"
#include "base/text.hpp"
#include "m5/error.hpp"
#include "tests/unit/input_file.hpp"

namespace m5::fuzz {

using test::InputFile;

inline void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "does not hold: %s\n", what);
  std::abort();
}
#define FUZZ_REQUIRE(condition) ::m5::fuzz::require((condition), #condition)

// The message of the m5::Error that `statement` throws, without `path`; empty if it throws none. An
// error of another kind than the ones given is a fault.
template <class F>
std::string refusal(std::initializer_list<ErrorKind> kinds, const std::string& path,
                    F&& statement) {
  try {
    statement();
  } catch (const Error& error) {
    require(std::find(kinds.begin(), kinds.end(), error.kind()) != kinds.end(), error.what());
    std::string message = error.what();
    require(printable(message).find_first_of("\n\r\x1b") == std::string::npos, "it is one line");
    for (std::size_t at = 0; (at = message.find(path, at)) != std::string::npos;) {
      message.erase(at, path.size());
    }
    require(!message.empty(), "a message says something");
    return message;
  }
  return "";
}

}  // namespace m5::fuzz
