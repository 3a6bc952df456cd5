#include "data/tokenizer.hpp"

#include "tests/unit/sequences.hpp"
#include "tests/unit/temp_dir.hpp"

namespace m5 {
namespace {

using test::contains;
using test::error_of;

TEST(Tokenizer, EveryByte) {
  const std::string bases = "ACGTUacgtu", other = "NRYSWKMBDHVnryswkmbdhv";
  for (int byte = 0; byte < 256; ++byte) {
    const std::string text(1, static_cast<char>(byte));
    const std::size_t at = bases.find(text);
    if (at != std::string::npos) {
      const Token expected[] = {kTokenA, kTokenC, kTokenG, kTokenT, kTokenT};
      EXPECT_EQ(tokenize(text, "f", "r")[0], expected[at % 5]);
    } else if (other.find(text) != std::string::npos) {
      EXPECT_EQ(tokenize(text, "f", "r")[0], kTokenN);
    } else {
      EXPECT_EQ(error_of(ErrorKind::kInput, [&] { tokenize(text, "f", "r"); })
                    .find("f: record 'r': position 1: "),
                0U);
    }
  }
}

TEST(Tokenizer, Counts) {
  BaseCounts counts;
  const auto tokens = tokenize("AACccGgGTtUuNnRyK", "f", "r", &counts);
  EXPECT_EQ(tokens.size(), 17U);
  BaseCounts expected;
  expected.n = 2;
  expected.ambiguous = 3;
  expected.u = 2;
  EXPECT_EQ(counts, expected);
  tokenize("ACGTNWu", "f", "r", &counts);  // added
  EXPECT_EQ(counts.n, 3);
  EXPECT_EQ(counts.ambiguous, 4);
  EXPECT_EQ(counts.u, 3);
  EXPECT_TRUE(tokenize("", "f", "r", &counts).empty());
}

TEST(Tokenizer, ErrorsNameThePlaceAndHelp) {
  const auto message = [](const std::string& text) {
    return error_of(ErrorKind::kInput, [&] { tokenize(text, "g.fa", "chr 1"); });
  };
  EXPECT_EQ(message("ACG-T"),
            "g.fa: record 'chr 1': position 4: '-' is no nucleotide code; remove gaps, m5 reads "
            "unaligned sequences");
  EXPECT_TRUE(contains(message("MKVL"), "position 4: 'L'"));
  EXPECT_TRUE(contains(message("MKVL"), "protein"));
  EXPECT_TRUE(contains(message("ACGT>x"), "position 5: '>'"));
  EXPECT_TRUE(contains(message(std::string("AC\0GT", 5)), "position 3: byte 0x00"));
  EXPECT_TRUE(contains(message("AC\xc3\xa9"), "position 3: byte 0xc3"));
  EXPECT_TRUE(contains(message("ACGT*"), "position 5"));
  EXPECT_TRUE(contains(message("ACGT5"), "position 5: '5'"));
}

TEST(Tokenizer, ReverseComplement) {
  const auto tokens = tokenize("AACGTN", "f", "r");
  const auto other = test::reversed(tokens);
  EXPECT_EQ(other, tokenize("NACGTT", "f", "r"));
  EXPECT_EQ(test::reversed(other), tokens);
}

}  // namespace
}  // namespace m5
