#include "base/text.hpp"

#include <gtest/gtest.h>

#include <vector>

namespace m5 {
namespace {

std::vector<std::uint32_t> code_points(std::string_view text) {
  std::vector<std::uint32_t> points;
  for (std::size_t at = 0; at < text.size();) points.push_back(next_code_point(text, at).value);
  return points;
}

TEST(Text, CodePoints) {
  using Points = std::vector<std::uint32_t>;
  EXPECT_EQ(code_points("aB|"), (Points{'a', 'B', '|'}));
  EXPECT_EQ(code_points("\xc3\xa9\xe2\x82\xac\xf0\x9f\xa7\xac"), (Points{0xe9, 0x20ac, 0x1f9ec}));
  EXPECT_EQ(code_points("\xff\xc3"), (Points{0xff, 0xc3}));            // no UTF-8: Latin-1
  EXPECT_EQ(code_points("\xc0\xaf"), (Points{0xc0, 0xaf}));            // overlong
  EXPECT_EQ(code_points("\xed\xa0\x80"), (Points{0xed, 0xa0, 0x80}));  // surrogate
  EXPECT_EQ(code_points(std::string_view("\0", 1)), Points{0});
  EXPECT_EQ(code_points(""), Points{});
}

TEST(Text, PrintableKeepsLettersOfAnyLanguage) {
  const std::string text = "chr1\t|\xc3\xa9\xe2\x82\xac\xf0\x9f\xa7\xac ~";
  EXPECT_EQ(printable(text), text);
  EXPECT_EQ(printable("a\nb\r\nc"), "a b  c");
  EXPECT_EQ(printable("\x1b[31m"), "\\x1b[31m");
  EXPECT_EQ(printable("\xc2\x9b"
                      "31m"),
            "\\x9b31m");  // CSI, as UTF-8
  EXPECT_EQ(printable("\x9b"
                      "31m"),
            "\\x9b31m");  // and as Latin-1
}

// Nothing that a terminal obeys comes through, wherever it stands and whatever is around it.
TEST(Text, PrintableOfEveryPairOfBytes) {
  for (int a = 0; a < 256; ++a) {
    for (int b = 0; b < 256; ++b) {
      const std::string text{'x', static_cast<char>(a), static_cast<char>(b), 'y'};
      const std::string line = printable(text);
      EXPECT_EQ(line.front(), 'x');
      EXPECT_EQ(line.back(), 'y');
      for (std::size_t at = 0; at < line.size();) {
        const CodePoint point = next_code_point(line, at);
        ASSERT_TRUE(point.valid) << a << ' ' << b;
        ASSERT_TRUE(point.value == '\t' ||
                    (point.value >= 0x20 && (point.value < 0x7f || point.value > 0x9f)))
            << a << ' ' << b;
      }
    }
  }
}

TEST(Text, PrintableCutsTheMiddleOfLongTexts) {
  for (const std::size_t size : {3999, 4000, 4001, 4002, 4003, 100000}) {
    std::string text = "file: record '";
    while (text.size() + 12 < size) text += "\xe2\x82\xac";
    text += "': why it is";
    const std::string line = printable(text);
    EXPECT_LE(line.size(), 4010u);
    EXPECT_EQ(line.substr(0, 14), "file: record '");
    EXPECT_TRUE(line.ends_with("': why it is"));
    EXPECT_EQ(line.find('\\'), std::string::npos);  // no character was cut
    EXPECT_EQ(line == text, text.size() <= 4000);
  }
}

}  // namespace
}  // namespace m5
