#include "sinks/npz_arrays.hpp"

#include <algorithm>
#include <utility>

#include "base/text.hpp"
#include "m5/error.hpp"
#include "sinks/npy.hpp"

namespace m5 {

// Widened a row at a time: the texts together may be far larger so.
void write_texts(ZipWriter& zip, const std::string& member, std::int64_t rows,
                 const std::function<const std::string&(std::int64_t)>& text_of) {
  const std::string* last = nullptr;  // texts are often those of the row before
  const auto same = [&](const std::string& text) { return &text == std::exchange(last, &text); };
  std::size_t width = 1;
  for (std::int64_t i = 0; i < rows; ++i) {
    const std::string& text = text_of(i);
    if (same(text)) continue;
    std::size_t points = 0;
    for (std::size_t at = 0; at < text.size(); ++points) next_code_point(text, at);
    width = std::max(width, points);
  }
  zip.begin(member, npy_header("<U" + std::to_string(width), rows, 0));
  std::vector<std::uint32_t> cell(width);
  last = nullptr;
  for (std::int64_t i = 0; i < rows; ++i) {
    const std::string& text = text_of(i);
    if (!same(text)) {
      std::size_t points = 0;
      for (std::size_t at = 0; at < text.size();) cell[points++] = next_code_point(text, at).value;
      std::fill(cell.begin() + static_cast<std::ptrdiff_t>(points), cell.end(), 0u);
    }
    zip.write(cell.data(), cell.size() * sizeof(std::uint32_t));
  }
  zip.end();
}

void write_texts(ZipWriter& zip, const std::string& member, const std::vector<std::string>& texts) {
  write_texts(
      zip, member, static_cast<std::int64_t>(texts.size()),
      [&](std::int64_t i) -> const std::string& { return texts[static_cast<std::size_t>(i)]; });
}

void write_integers(ZipWriter& zip, const std::string& member, std::int64_t rows,
                    const std::function<std::int64_t(std::int64_t)>& value_of) {
  zip.begin(member, npy_header("<i8", rows, 0));
  for (std::int64_t i = 0; i < rows; ++i) {
    const std::int64_t value = value_of(i);
    zip.write(&value, sizeof value);
  }
  zip.end();
}

void check_text_room(std::size_t longest, std::int64_t rows) {
  constexpr double kMostText = 1e11;  // bytes of an array of names, before compression
  if (static_cast<double>(longest) * 4 * static_cast<double>(rows) <= kMostText) return;
  throw Error(ErrorKind::kInput,
              "a name of " + std::to_string(longest) + " bytes: npz gives every one of " +
                  std::to_string(rows) +
                  " rows and more as much room; shorten the name, or write another format");
}

}  // namespace m5
