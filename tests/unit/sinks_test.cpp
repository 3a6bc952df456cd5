#include <gtest/gtest.h>

#include <charconv>
#include <cmath>
#include <iterator>
#include <limits>

#include "base/random.hpp"
#include "m5/error.hpp"
#include "sinks/half.hpp"
#include "sinks/npy.hpp"
#include "sinks/number.hpp"
#include "sinks/score_sink.hpp"
#include "sinks/summary.hpp"
#include "tests/unit/temp_dir.hpp"

namespace m5 {
namespace {

TEST(Half, EveryHalfComesBack) {
  for (std::uint32_t half = 0; half < 0x10000; ++half) {
    const auto bits = static_cast<std::uint16_t>(half);
    const float value = float_from_half(bits);
    if (std::isnan(value)) continue;
    ASSERT_EQ(half_from_float(value), bits) << value;
  }
}

TEST(Half, RoundsToNearestEven) {
  for (std::uint32_t half = 0; half < 0x7bff; ++half) {  // neighbours that are finite
    const auto low = static_cast<std::uint16_t>(half), high = static_cast<std::uint16_t>(half + 1);
    const double middle = (static_cast<double>(float_from_half(low)) + float_from_half(high)) / 2;
    const auto tie = static_cast<float>(middle);
    ASSERT_EQ(static_cast<double>(tie), middle);
    ASSERT_EQ(half_from_float(tie), (half & 1) ? high : low);
    ASSERT_EQ(half_from_float(std::nextafter(tie, 0.0f)), low);
    ASSERT_EQ(half_from_float(std::nextafter(tie, 1e9f)), high);
  }
  EXPECT_EQ(half_from_float(65519.0f), 0x7bff);
  EXPECT_EQ(half_from_float(65520.0f), 0x7c00);
  EXPECT_EQ(half_from_float(1e30f), 0x7c00);
  EXPECT_EQ(half_from_float(-std::numeric_limits<float>::infinity()), 0xfc00);
  EXPECT_TRUE(std::isnan(float_from_half(half_from_float(std::nanf("")))));
}

TEST(Number, FixedDecimalsWithoutNegativeZero) {
  const auto fixed = [](double value, int digits) {
    std::string text;
    append_fixed(text, value, digits);
    return text;
  };
  EXPECT_EQ(fixed(-0.0, 4), "0.0000");
  EXPECT_EQ(fixed(-0.00004, 4), "0.0000");
  EXPECT_EQ(fixed(-0.00006, 4), "-0.0001");
  EXPECT_EQ(fixed(3.99999, 2), "4.00");
  EXPECT_EQ(fixed(2.5, 0), "2");
  EXPECT_EQ(fixed(1e300, 1).size(), 303u);
}

// Integers of the last decimal, what lies half way between them (in binary exactly and nearly), and
// their neighbours, of all sizes.
TEST(Number, FixedIsThatOfToChars) {
  std::int64_t wrong = 0;
  const auto check = [&](double value, int digits) {
    char expected[512];
    char* const end =
        std::to_chars(expected, std::end(expected), value, std::chars_format::fixed, digits).ptr;
    std::string text(expected, end);
    if (text.find_first_not_of("-0.") == std::string::npos && text[0] == '-') text.erase(0, 1);
    char written[kNumberBytes];
    const std::string_view found(written, write_fixed(written, value, digits));
    if (found != text && ++wrong < 10) ADD_FAILURE() << text << " is written " << found;
  };
  const auto check_about = [&](double value, int digits) {
    for (const double from : {value, -value}) {
      check(from, digits);
      check(std::nextafter(from, 0.0), digits);
      check(std::nextafter(from, 2 * from), digits);
    }
  };
  constexpr double kGreatest = std::numeric_limits<double>::max();
  for (int digits = 0; digits <= 17; ++digits) {
    for (const double value : {0.0, 0.5, 0.125, 2.5, 1e-5, 9.99995, 1e300, 5e-324, kGreatest}) {
      check_about(value, digits);
    }
    check(std::numeric_limits<double>::infinity(), digits);
    for (std::uint64_t i = 0; i < 5'000; ++i) {
      const std::uint64_t size = random_bits(1, i) >> (i % 64);
      check_about(std::ldexp(static_cast<double>(size | 1), -digits - 1), digits);  // half way
      for (const double part : {0.0, 0.4989, 0.4991, 0.5, 0.5009}) {
        check_about((static_cast<double>(size) + part) / std::pow(10.0, digits), digits);
      }
    }
  }
  EXPECT_EQ(wrong, 0);
}

TEST(Npy, HeaderIsAlignedAndStatesTheShape) {
  const std::string header = npy_header("<f4", 4641652, 128);
  EXPECT_EQ(header.size(), kNpyHeaderSize);
  EXPECT_EQ(header.substr(0, 8), std::string("\x93NUMPY\x01\x00", 8));
  EXPECT_EQ(static_cast<unsigned char>(header[8]), 118);
  EXPECT_NE(header.find("'shape': (4641652, 128), }"), std::string::npos);
  EXPECT_EQ(header.back(), '\n');
  EXPECT_NE(npy_header("<i8", 7, 0).find("'shape': (7,), }"), std::string::npos);
  EXPECT_EQ(npy_header("<U255", std::numeric_limits<std::int64_t>::max(), 1024).size(),
            kNpyHeaderSize);
}

// A summary has numbers only; where the perplexity is none the record is named.
TEST(Summary, PerplexityThatIsNoNumber) {
  const Token tokens[] = {kTokenA, kTokenN};
  SequenceScores scores;
  const float none = std::nanf("");
  for (const float nll : {1.0f, 700.0f, 800.0f, 3e38f}) {
    scores.log_p = {-nll, none};
    scores.log_probs = {-nll, 0, 0, 0, none, none, none, none};
    RecordSummary summary;
    summary.name = "x";
    if (nll < 709) {
      summary.add(tokens, scores);
      EXPECT_EQ(summary.scored, 1);
      continue;
    }
    try {
      summary.add(tokens, scores);
      ADD_FAILURE() << nll;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kNumeric);
      EXPECT_NE(std::string(error.what()).find("'x'"), std::string::npos);
    }
  }
}

// Names in an npz have one width: a long one among many rows would fill any disk, and is refused
// before it does.
TEST(Npz, NamesTooLongForTheirNumber) {
  test::TempDir dir;
  const float value = 1;
  for (const std::size_t length : {1000UL, 10'000'000UL, 16'000'000UL}) {
    EmbedSinkOptions options;
    options.path = dir / "x.npz";
    options.dim = 1;
    const auto sink = make_embed_sink("npz", options);
    sink->add({std::string(length, 'x'), "s", 0, 1, '.', 1}, &value);
    std::int64_t rows = 1;
    const auto add = [&] {
      for (; rows < 5000; ++rows) sink->add({"y", "s", 0, 1, '.', 1}, &value);
    };
    if (length == 1000) {
      EXPECT_NO_THROW(add());
      continue;
    }
    EXPECT_TRUE(test::contains(test::error_of(ErrorKind::kInput, add), "shorten the name"));
    EXPECT_NEAR(static_cast<double>(rows), 1e11 / 4 / static_cast<double>(length), 2);
  }
  EXPECT_EQ(dir.entries(), 0U);
}

TEST(Npy, TextsThatRowsShareAreKeptOnce) {
  RowTable table;
  for (const auto& [name, sequence] : std::vector<std::pair<std::string, std::string>>{
           {"a", "a"}, {"a", "a"}, {"f", "a"}, {"g", "a"}, {"a", "f"}, {"", ""}}) {
    table.add({name, sequence, 0, 1, '.', 1});
    EXPECT_EQ(table.name(table.size() - 1), name);
    EXPECT_EQ(table.sequence(table.size() - 1), sequence);
  }
  EXPECT_EQ(&table.name(0), &table.sequence(1));
  EXPECT_EQ(&table.sequence(0), &table.sequence(3));
}

TEST(Npy, Float16RefusesWhatItCannotHold) {
  EmbedSinkOptions options;
  options.dim = 2;
  options.float16 = true;
  std::string bytes;
  const float fine[] = {1.0f, -65504.0f}, great[] = {1.0f, 70000.0f};
  append_values(bytes, options, {"f", "x", 4, 5, '.', 1}, fine);
  EXPECT_EQ(bytes, std::string("\x00\x3c\xff\xfb", 4));
  try {
    append_values(bytes, options, {"f", "x", 4, 5, '.', 1}, great);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kNumeric);
    EXPECT_NE(std::string(error.what()).find("'x'"), std::string::npos);
  }
}

TEST(Formats, ByName) {
  EXPECT_EQ(score_format_of("-"), "bedgraph");
  EXPECT_EQ(score_format_of("a.bedgraph.gz"), "bedgraph");
  EXPECT_EQ(score_format_of("a.tsv"), "tsv");
  EXPECT_EQ(score_format_of("a.tsv.gz"), "tsv");
  EXPECT_EQ(embed_format_of("-"), "tsv");
  EXPECT_EQ(embed_format_of("x.npz"), "npz");
  EXPECT_THROW(embed_format_of("x.txt"), Error);
  EXPECT_TRUE(needs_all_bases("tsv", Metric::kNll));
  EXPECT_TRUE(needs_all_bases("bedgraph", Metric::kEntropy));
  EXPECT_FALSE(needs_all_bases("bedgraph", Metric::kBits));
  EXPECT_THROW(make_score_sink("bigwig", {}), Error);
}

TEST(Metrics, OfNats) {
  EXPECT_DOUBLE_EQ(metric_from_nll(Metric::kNll, 1.25), 1.25);
  EXPECT_NEAR(metric_from_nll(Metric::kBits, std::log(4.0)), 2.0, 1e-15);
  EXPECT_NEAR(metric_from_nll(Metric::kPerplexity, std::log(4.0)), 4.0, 1e-14);
  const float quarter = std::log(0.25f);
  const float even[] = {quarter, quarter, quarter, quarter};
  EXPECT_NEAR(entropy_bits(even), 2.0, 1e-6);
  const float sure[] = {0.0f, -200.0f, -200.0f, -200.0f};
  EXPECT_NEAR(entropy_bits(sure), 0.0, 1e-12);
}

}  // namespace
}  // namespace m5
