#include "io/regions.hpp"

#include <limits>

#include "tests/unit/temp_dir.hpp"

namespace m5 {
namespace {

using test::contains;
using test::error_of;
using test::put;
using test::TempDir;

constexpr std::int64_t kToEnd = Region::kToEnd;

TEST(Regions, Forms) {
  const auto expect = [](const std::string& text, const std::string& whole, const std::string& name,
                         std::int64_t begin, std::int64_t end) {
    const Region r = parse_region(text);
    EXPECT_EQ(r.text, text);
    EXPECT_EQ(r.whole_name, whole) << text;
    EXPECT_EQ(r.name, name) << text;
    if (!name.empty()) {
      EXPECT_EQ(r.interval, (Interval{begin, end})) << text;
    }
  };
  expect("chr1", "chr1", "", 0, 0);
  expect("chr1:101-200", "chr1:101-200", "chr1", 100, 200);
  expect("chr1:1,001-2,000,000", "chr1:1,001-2,000,000", "chr1", 1000, 2000000);
  expect("chr1:5", "chr1:5", "chr1", 4, kToEnd);
  expect("chr1:5-", "chr1:5-", "chr1", 4, kToEnd);
  expect("chr1:-5", "chr1:-5", "chr1", 0, 5);
  expect("chr1:7-7", "chr1:7-7", "chr1", 6, 7);
  expect("gnl|X|A:1", "gnl|X|A:1", "gnl|X|A", 0, kToEnd);
  expect("gnl|X|A:1:5-10", "gnl|X|A:1:5-10", "gnl|X|A:1", 4, 10);
  expect("{gnl|X|A:1}", "gnl|X|A:1", "", 0, 0);
  expect("{gnl|X|A:1}:5-10", "", "gnl|X|A:1", 4, 10);
  // Not coordinates: a name.
  for (const char* name : {"a:b", "a:", "a:1x", "a:x-5", "a:1-2-3", "a:,5", "a:5,", ":5", "a:-",
                           "a:1e3", "a:99999999999999999999"}) {
    expect(name, name, "", 0, 0);
  }
}

TEST(Regions, Refusals) {
  for (const char* bad :
       {"", "a:5-4", "a:0", "a:0-5", "a:-0", "{a", "{}", "{a}5", "{a}:", "{a}:x"}) {
    const std::string message = error_of(ErrorKind::kUsage, [&] { parse_region(bad); });
    EXPECT_TRUE(contains(message, "region '" + std::string(bad) + "'")) << message;
  }
}

std::vector<Interval> select(RegionSelector& selector, const std::string& name,
                             std::int64_t length) {
  return selector.select(name, length);
}

TEST(Regions, SelectKeepsTheOrderAndCuts) {
  RegionSelector selector({parse_region("a:11-20"), parse_region("b"), parse_region("a:1-5"),
                           parse_region("a:6-8"), parse_region("a:15-18"),
                           parse_region("a:95-200")});
  EXPECT_TRUE(selector.wants("a"));
  EXPECT_FALSE(selector.wants("c"));
  testing::internal::CaptureStderr();
  const std::vector<Interval> found = select(selector, "a", 100);
  EXPECT_EQ(found, (std::vector<Interval>{{10, 20}, {0, 5}, {5, 8}, {14, 18}, {94, 100}}));
  EXPECT_EQ(merge_intervals(found), (std::vector<Interval>{{0, 8}, {10, 20}, {94, 100}}));
  EXPECT_TRUE(contains(testing::internal::GetCapturedStderr(), "'a:95-200' is cut at the end"));
  EXPECT_TRUE(select(selector, "c", 100).empty());
  EXPECT_TRUE(contains(error_of(ErrorKind::kInput, [&] { selector.finish(); }),
                       "region 'b': no sequence named 'b'"));
  EXPECT_EQ(select(selector, "b", 7), (std::vector<Interval>{{0, 7}}));
  selector.finish();
  EXPECT_TRUE(RegionSelector({}).empty());
}

TEST(Regions, PastTheEnd) {
  RegionSelector selector({parse_region("a:101-110")});
  EXPECT_TRUE(contains(error_of(ErrorKind::kInput, [&] { select(selector, "a", 100); }),
                       "begins past the end of 'a' (100 nt)"));
  EXPECT_EQ(select(selector, "a", 110), (std::vector<Interval>{{100, 110}}));
}

TEST(Regions, NamesWithColonsAreSettledByTheRecords) {
  const auto make = [] { return RegionSelector({parse_region("x:5")}); };
  RegionSelector whole = make(), part = make(), both = make();
  EXPECT_EQ(select(whole, "x:5", 9), (std::vector<Interval>{{0, 9}}));
  whole.finish();
  EXPECT_EQ(select(part, "x", 9), (std::vector<Interval>{{4, 9}}));
  part.finish();
  select(both, "x", 9);
  select(both, "x:5", 9);
  EXPECT_TRUE(
      contains(error_of(ErrorKind::kInput, [&] { both.finish(); }), "{x:5} or {x}:FROM-TO"));
}

TEST(Regions, Bed) {
  TempDir dir;
  const auto regions =
      read_bed_regions(put(dir / "r.bed", "# c\ntrack name=x\nchr:1\t10\t20\tn\t0\t-\nb\t0\t1\n"));
  ASSERT_EQ(regions.size(), 2U);
  EXPECT_EQ(regions[0].name, "chr:1");
  EXPECT_EQ(regions[0].whole_name, "");
  EXPECT_EQ(regions[0].interval, (Interval{10, 20}));
  EXPECT_TRUE(contains(regions[0].text, "line 3"));
  error_of(ErrorKind::kInput, [&] { read_bed_regions(put(dir / "e.bed", "# nothing\n")); });
  EXPECT_TRUE(
      contains(error_of(ErrorKind::kInput,
                        [&] { read_bed_regions(put(dir / "b.bed", "a\t0\t5\n\nb\t7\t3\n")); }),
               "b.bed: line 3: start 7 is not before end 3"));
}

}  // namespace
}  // namespace m5
