#include "io/features.hpp"

#include "base/random.hpp"
#include "tests/unit/temp_dir.hpp"

namespace m5 {
namespace {

using test::contains;
using test::error_of;
using test::gzip;
using test::put;
using test::TempDir;

const char kGff[] =
    "##gff-version 3\n"
    "##sequence-region chr 1 1000\n"
    "# a comment\n"
    "chr\tRefSeq\tgene\t11\t40\t.\t+\t.\tID=gene-1;Name=thr%3BL;locus_tag=b0001\n"
    "\n"
    "chr\tRefSeq\tCDS\t11\t40\t.\t-\t0\tName=thr%09L;locus_tag=b0001\r\n"
    "chr\tRefSeq\tCDS\t990\t1010\t.\t?\t0\tlocus_tag=b%2\n"
    "ch%20r\tx\tregion\t1\t1\t5.5\t.\t.\t.\n"
    "###\n"
    "##FASTA\n"
    ">chr\nACGT\nthis is not a feature\n";

TEST(Features, Gff) {
  TempDir dir;
  for (const std::string& bytes : {std::string(kGff), gzip(kGff)}) {
    const auto all = read_features(put(dir / "annotation", bytes)).features;
    ASSERT_EQ(all.size(), 4U);
    EXPECT_EQ(all[0].seqid, "chr");
    EXPECT_EQ(all[0].begin, 10);
    EXPECT_EQ(all[0].end, 40);
    EXPECT_EQ(all[0].strand, '+');
    EXPECT_EQ(all[0].name, "gene-1");
    EXPECT_EQ(all[0].type, "gene");
    EXPECT_EQ(all[0].line, 4);
    EXPECT_EQ(all[1].name, "b0001");
    EXPECT_EQ(all[1].strand, '-');
    EXPECT_EQ(all[2].name, "b%2");
    EXPECT_EQ(all[2].strand, '.');
    EXPECT_EQ(all[2].end, 1010);
    EXPECT_EQ(all[3].seqid, "ch r");
    EXPECT_EQ(all[3].name, "ch r:1-1");
  }
  EXPECT_EQ(read_features(dir / "annotation", {.type = "CDS"}).features.size(), 2U);
  EXPECT_TRUE(contains(
      error_of(ErrorKind::kInput, [&] { read_features(dir / "annotation", {.type = "tRNA"}); }),
      "no feature of type 'tRNA'"));
}

std::vector<std::string> names_of(const std::vector<Feature>& features) {
  std::vector<std::string> names;
  for (const Feature& f : features) names.push_back(f.name);
  return names;
}

TEST(Features, Names) {
  TempDir dir;
  const std::string path = put(dir / "f.gff",
                               "c\t.\tgene\t1\t9\t.\t+\t.\tName=n1;locus_tag=l1;gene=dnaA;ID=i1\n"
                               "c\t.\tgene\t1\t9\t.\t+\t.\tgene=a%09b;Name=n2;locus_tag=l2\n"
                               "c\t.\tgene\t1\t9\t.\t+\t.\tName=n3\n"
                               "c\t.\tgene\t1\t9\t.\t+\t.\t.\n");
  using Names = std::vector<std::string>;
  EXPECT_EQ(names_of(read_features(path).features), (Names{"i1", "l2", "n3", "c:1-9"}));
  // An encoded tab must not break tables.
  EXPECT_EQ(names_of(read_features(path, {.name_attribute = "gene"}).features),
            (Names{"dnaA", "a b", "n3", "c:1-9"}));
  EXPECT_TRUE(contains(
      error_of(ErrorKind::kInput, [&] { read_features(path, {.name_attribute = "product"}); }),
      "no feature has the attribute 'product'"));
}

// Rows of one sequence, type and ID are one feature, wherever they stand.
TEST(Features, RowsOfOneIdAreOneFeature) {
  TempDir dir;
  const auto all =
      read_features(put(dir / "f.gff",
                        "c\t.\tgene\t10\t90\t.\t-\t.\tID=a\n"  // another type
                        "c\t.\tCDS\t61\t90\t.\t-\t.\tID=a\n"   // in the order of reading
                        "c\t.\tCDS\t5\t8\t.\t+\t.\tID=b\n"     // another ID
                        "c\t.\tCDS\t10\t30\t.\t-\t.\tID=a\n"
                        "d\t.\tCDS\t10\t30\t.\t-\t.\tID=a\n"  // another sequence
                        "c\t.\tCDS\t30\t40\t.\t-\t.\tID=a\n"  // overlaps: a base counts once
                        "c\t.\tCDS\t41\t50\t.\t-\t.\tID=a\n"  // touches
                        "c\t.\tCDS\t70\t80\t.\t-\t.\tID=b\n"  // strands do not agree
                        "c\t.\tCDS\t1\t2\t.\t+\t.\tName=n\n"
                        "c\t.\tCDS\t4\t5\t.\t+\t.\tName=n\n"  // a Name joins nothing
                        "c\t.\tCDS\t1\t4\t.\t+\t.\tID=t\n"
                        "c\t.\tCDS\t5\t9\t.\t+\t.\tID=t\n"))
          .features;
  ASSERT_EQ(all.size(), 7U);
  EXPECT_EQ(all[0].type, "gene");
  EXPECT_TRUE(all[0].parts.empty());
  EXPECT_EQ(all[1].parts, (std::vector<Interval>{{9, 50}, {60, 90}}));
  EXPECT_EQ(all[1].begin, 9);
  EXPECT_EQ(all[1].end, 90);
  EXPECT_EQ(all[1].strand, '-');
  EXPECT_EQ(all[1].line, 2);
  EXPECT_EQ(all[2].parts, (std::vector<Interval>{{4, 8}, {69, 80}}));
  EXPECT_EQ(all[2].strand, '.');
  EXPECT_EQ(all[3].seqid, "d");
  EXPECT_EQ(all[6].name, "t");
  EXPECT_TRUE(all[6].parts.empty());  // they touch: one stretch
  EXPECT_EQ(all[6].end, 9);
}

TEST(Features, CircularSequences) {
  TempDir dir;
  const auto file = read_features(put(dir / "f.gff",
                                      "a\t.\tregion\t1\t90\t.\t+\t.\tID=a;Is_circular=true\n"
                                      "b\t.\tregion\t1\t90\t.\t+\t.\tID=b;Is_circular=false\n"
                                      "a\t.\tCDS\t1\t9\t.\t+\t.\tID=c\n"),
                                  {.type = "CDS"});
  EXPECT_EQ(file.circular, (std::set<std::string>{"a"}));
}

// Every way that a feature of two or three parts can lie on a ring, against the set of its bases.
TEST(Features, PlacedOnTheirRecord) {
  constexpr std::int64_t kLength = 9;
  const auto bases = [](const std::vector<Interval>& parts) {
    std::vector<int> at(kLength);
    for (const Interval& part : parts) {
      for (std::int64_t i = part.begin; i < part.end; ++i)
        ++at[static_cast<std::size_t>(i % kLength)];
    }
    return at;
  };
  std::vector<Interval> intervals;
  for (std::int64_t b = 0; b < kLength; ++b) {
    for (std::int64_t e = b + 1; e <= b + kLength; ++e) intervals.push_back({b, e});
  }
  int around = 0;
  for (const Interval& x : intervals) {
    for (const Interval& y : intervals) {
      Feature feature;
      feature.parts = merge_intervals({x, y});
      feature.begin = feature.parts.front().begin;
      feature.end = feature.parts.back().end;
      if (feature.parts.size() == 1) feature.parts.clear();
      if (feature.parts.empty() && feature.end - feature.begin > kLength) continue;
      const auto placed = place_feature(feature, "f", kLength, true);
      std::vector<int> want = bases({x, y});
      for (int& n : want) n = std::min(n, 1);
      ASSERT_EQ(bases(placed), want) << x.begin << "-" << x.end << ", " << y.begin << "-" << y.end;
      for (std::size_t i = 1; i < placed.size(); ++i) ASSERT_GT(placed[i].begin, placed[i - 1].end);
      ASSERT_LE(placed.back().end - placed.front().begin, kLength);
      around += placed.back().end > kLength && placed.size() > 1;
      const bool passes = x.end > kLength || y.end > kLength;
      if (passes) {
        EXPECT_TRUE(contains(
            error_of(ErrorKind::kInput, [&] { place_feature(feature, "f", kLength, false); }),
            "f: line 0: feature '' ends at "));
      } else {
        ASSERT_EQ(bases(place_feature(feature, "f", kLength, false)), want);
      }
    }
  }
  EXPECT_GT(around, 50);
  Feature feature;  // 8-9, 1-2: around the end; 8-9, 1-2, 5: the widest gap is where it begins
  feature.parts = {{0, 2}, {7, 9}};
  EXPECT_EQ(place_feature(feature, "f", 9, true), (std::vector<Interval>{{7, 11}}));
  EXPECT_EQ(place_feature(feature, "f", 9, false), feature.parts);
  feature.parts = {{0, 2}, {3, 4}, {7, 9}};
  EXPECT_EQ(place_feature(feature, "f", 9, true), (std::vector<Interval>{{7, 11}, {12, 13}}));
}

TEST(Features, GffWithoutItsFirstLineAndWithBareFasta) {
  TempDir dir;
  const auto all =
      read_features(put(dir / "a", "c\tx\tgene\t1\t3\t.\t+\t.\tID=a\n>c\nACG\n")).features;
  ASSERT_EQ(all.size(), 1U);
  EXPECT_EQ(all[0].name, "a");
}

TEST(Features, Bed) {
  TempDir dir;
  const std::string bed =
      "browser position x\ntrack name=a\n#c\nchr\t0\t10\nchr 5 6 g1\n"
      "chr\t10\t20\tgene two\t960\t-\t10\t20\t0\t1\t10,\t0,\n\nc2\t3\t4\t.\t0\t+\n";
  const auto all = read_features(put(dir / "f.bed", bed)).features;
  ASSERT_EQ(all.size(), 4U);
  EXPECT_EQ(all[0].name, "chr:1-10");
  EXPECT_EQ(all[0].strand, '.');
  EXPECT_EQ(all[1].name, "g1");
  EXPECT_EQ(all[2].name, "gene two");
  EXPECT_EQ(all[2].strand, '-');
  EXPECT_EQ(all[2].type, "");
  EXPECT_EQ(all[3].name, "c2:4-4");
  EXPECT_EQ(read_bed(dir / "f.bed").size(), 4U);
}

TEST(Features, RefusalsNameTheLine) {
  TempDir dir;
  const auto refusal = [&](const std::string& text) {
    put(dir / "f", text);
    return error_of(ErrorKind::kInput, [&] { read_features(dir / "f"); });
  };
  const std::string head = "##gff-version 3\n";
  EXPECT_TRUE(contains(refusal(head + "c\tx\tgene\t1\t3\t.\t+\t.\n"), "line 2: a GFF3 line has 9"));
  EXPECT_TRUE(contains(refusal(head + "c\tx\tgene\t0\t3\t.\t+\t.\t.\n"), "line 2: start '0'"));
  EXPECT_TRUE(contains(refusal(head + "c\tx\tgene\t1\tx\t.\t+\t.\t.\n"), "end 'x'"));
  EXPECT_TRUE(contains(refusal(head + "c\tx\tgene\t9\t3\t.\t+\t.\t.\n"), "start 9 is after end 3"));
  EXPECT_TRUE(contains(refusal(head + "c\tx\tgene\t1\t3\t.\t*\t.\t.\n"), "strand '*'"));
  EXPECT_TRUE(contains(refusal(head + "\tx\tgene\t1\t3\t.\t+\t.\t.\n"), "no sequence name"));
  EXPECT_TRUE(contains(refusal("c\t1\n"), "line 1: a BED line has at least 3"));
  EXPECT_TRUE(contains(refusal("c\t-1\t3\n"), "start '-1'"));
  EXPECT_TRUE(contains(refusal("c\t4\t3\n"), "start 4 is not before end 3"));
  EXPECT_TRUE(contains(refusal("c\t3\t3\n"), "no features"));  // skipped with a warning
  EXPECT_TRUE(contains(refusal("c\t1\t99999999999999999999\n"), "end '9999"));
  EXPECT_TRUE(contains(refusal("c\t1\t2.5\n"), "end '2.5'"));
  EXPECT_TRUE(contains(refusal("c\t1\t3\tn\t0\tx\n"), "strand 'x'"));
  EXPECT_TRUE(contains(refusal(">chr\nACGT\n"), "line 1"));
  EXPECT_TRUE(contains(refusal(std::string("c\t1\t3\n\0\0\n", 9)), "NUL"));
  EXPECT_TRUE(contains(refusal(""), "no features"));
  EXPECT_TRUE(contains(refusal(head), "no features"));
  const std::string packed = gzip(kGff);
  for (std::size_t cut = 0; cut < packed.size(); ++cut) refusal(packed.substr(0, cut));
  error_of(ErrorKind::kIo, [&] { read_features(dir / "none"); });
}

TEST(Features, RandomBytes) {
  TempDir dir;
  const std::string alphabet = "\t\t\t\n c19+-.#>;=%\r";
  for (std::uint64_t trial = 0; trial < 2000; ++trial) {
    std::string text = trial % 2 == 0 ? "##gff-version 3\n" : "";
    for (std::uint64_t i = 0; i < 60; ++i) {
      text += alphabet[random_bits(trial, i) % alphabet.size()];
    }
    try {
      for (const Feature& f : read_features(put(dir / "f", text)).features)
        ASSERT_LT(f.begin, f.end);
    } catch (const Error& error) {
      ASSERT_EQ(error.kind(), ErrorKind::kInput) << error.what();
    }
  }
}

}  // namespace
}  // namespace m5
