#include "base/text.hpp"

namespace m5 {

namespace {

constexpr std::size_t kLongest = 4000, kEnd = 1000;  // bytes

bool is_continuation(char c) { return (static_cast<unsigned char>(c) & 0xc0) == 0x80; }

void append_printable(std::string& line, std::string_view text) {
  constexpr char kHex[] = "0123456789abcdef";
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t begin = at;
    const CodePoint point = next_code_point(text, at);
    if (point.value == '\n' || point.value == '\r') {
      line += ' ';
    } else if (point.valid && point.value >= 0x20 && (point.value < 0x7f || point.value > 0x9f)) {
      line += text.substr(begin, at - begin);
    } else if (point.value == '\t') {
      line += '\t';
    } else {
      line += {'\\', 'x', kHex[point.value / 16], kHex[point.value % 16]};
    }
  }
}

}  // namespace

CodePoint next_code_point(std::string_view text, std::size_t& at) {
  const auto byte = static_cast<unsigned char>(text[at]);
  const std::size_t more = byte >= 0xf0 && byte < 0xf5   ? 3
                           : byte >= 0xe0 && byte < 0xf0 ? 2
                           : byte >= 0xc2 && byte < 0xe0 ? 1
                                                         : 0;
  CodePoint point{byte, byte < 0x80};
  if (more > 0 && more < text.size() - at) {
    constexpr std::uint32_t kLeast[] = {0, 0x80, 0x800, 0x10000};
    std::uint32_t value = byte & (0x3fu >> more);
    bool valid = true;
    for (std::size_t k = 1; k <= more; ++k) {
      valid = valid && is_continuation(text[at + k]);
      value = (value << 6) | (static_cast<unsigned char>(text[at + k]) & 0x3fu);
    }
    if (valid && value >= kLeast[more] && value <= 0x10ffff && (value < 0xd800 || value > 0xdfff)) {
      point = {value, true};
      at += more;
    }
  }
  ++at;
  return point;
}

std::string printable(std::string_view text) {
  std::string line;
  if (text.size() <= kLongest) {
    append_printable(line, text);
    return line;
  }
  // The end of a message says what is wrong. Cuts are between characters.
  std::size_t head = kLongest - kEnd, tail = text.size() - kEnd;
  while (head > 0 && is_continuation(text[head])) --head;
  while (tail < text.size() && is_continuation(text[tail])) ++tail;
  append_printable(line, text.substr(0, head));
  line += " [...] ";
  append_printable(line, text.substr(tail));
  return line;
}

std::string with_commas(std::int64_t value) {
  std::string text = std::to_string(value);
  for (std::int64_t at = static_cast<std::int64_t>(text.size()) - 3; at > (value < 0 ? 1 : 0);
       at -= 3) {
    text.insert(static_cast<std::size_t>(at), ",");
  }
  return text;
}

}  // namespace m5
