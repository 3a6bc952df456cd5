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
    const auto all = read_features(put(dir / "annotation", bytes));
    ASSERT_EQ(all.size(), 4U);
    EXPECT_EQ(all[0].seqid, "chr");
    EXPECT_EQ(all[0].begin, 10);
    EXPECT_EQ(all[0].end, 40);
    EXPECT_EQ(all[0].strand, '+');
    EXPECT_EQ(all[0].name, "gene-1");
    EXPECT_EQ(all[0].type, "gene");
    EXPECT_EQ(all[0].line, 4);
    EXPECT_EQ(all[1].name, "thr L");  // an encoded tab must not break tables
    EXPECT_EQ(all[1].strand, '-');
    EXPECT_EQ(all[2].name, "b%2");
    EXPECT_EQ(all[2].strand, '.');
    EXPECT_EQ(all[2].end, 1010);
    EXPECT_EQ(all[3].seqid, "ch r");
    EXPECT_EQ(all[3].name, "ch r:1-1");
  }
  EXPECT_EQ(read_features(dir / "annotation", "CDS").size(), 2U);
  EXPECT_TRUE(
      contains(error_of(ErrorKind::kInput, [&] { read_features(dir / "annotation", "tRNA"); }),
               "no feature of type 'tRNA'"));
}

TEST(Features, GffWithoutItsFirstLineAndWithBareFasta) {
  TempDir dir;
  const auto all = read_features(put(dir / "a", "c\tx\tgene\t1\t3\t.\t+\t.\tID=a\n>c\nACG\n"));
  ASSERT_EQ(all.size(), 1U);
  EXPECT_EQ(all[0].name, "a");
}

TEST(Features, Bed) {
  TempDir dir;
  const std::string bed =
      "browser position x\ntrack name=a\n#c\nchr\t0\t10\nchr 5 6 g1\n"
      "chr\t10\t20\tgene two\t960\t-\t10\t20\t0\t1\t10,\t0,\n\nc2\t3\t4\t.\t0\t+\n";
  const auto all = read_features(put(dir / "f.bed", bed));
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
      for (const Feature& f : read_features(put(dir / "f", text))) ASSERT_LT(f.begin, f.end);
    } catch (const Error& error) {
      ASSERT_EQ(error.kind(), ErrorKind::kInput) << error.what();
    }
  }
}

}  // namespace
}  // namespace m5
