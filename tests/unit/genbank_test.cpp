// GenBank flat files, as sequences and as features, whole, damaged and hostile.
#include "io/genbank.hpp"

#include "base/random.hpp"
#include "io/sequence_reader.hpp"
#include "io/topology.hpp"
#include "tests/unit/input_file.hpp"
#include "tests/unit/temp_dir.hpp"

namespace m5 {
namespace {

using test::contains;
using test::error_of;
using test::gzip;
using test::InputFile;
using test::put;
using test::TempDir;

const std::string kTwoRecords =
    "LOCUS       PLASMID                   70 bp    DNA     circular BCT 01-JAN-2020\n"
    "DEFINITION  A plasmid.\n"
    "ACCESSION   PLASMID\n"
    "VERSION     PLASMID.2\n"
    "COMMENT     What is indented is text:\n"
    "            LOCUS\n"
    "            ORIGIN\n"
    "            //\n"
    "FEATURES             Location/Qualifiers\n"
    "     source          1..70\n"
    "                     /organism=\"x\"\n"
    "     CDS             complement(join(61..70,1..9,\n"
    "                     20..>22))\n"
    "                     /gene=\"rep \"\"A\"\"\"\n"
    "                     /note=\"a note of two lines\n"
    "                     /locus_tag=no qualifier\"\n"
    "                     /pseudo\n"
    "                     /locus_tag=\"p_1\"\n"
    "     gene            <3..5\n"
    "                     /gene=abc\n"
    "     misc_feature    12^13\n"
    "     tRNA            65..4\n"
    "ORIGIN      \n"
    "        1 acgtacgtac gtacgtacgt acgtacgtac gtacgtacgt acgtacgtac gtacgtacgt\n"
    "       61 nryacgtacg\n"
    "//\n"
    "\n"
    "LOCUS       contig_2 4 bp DNA linear BCT\n"
    "VERSION\n"
    "FEATURES             Location/Qualifiers\n"
    "     CDS             2\n"
    "BASE COUNT  1 a\n"
    "ORIGIN\n"
    "1 AC GT\n"
    "//\n";

std::string with_line_ends(std::string text, const std::string& end) {
  for (std::size_t at = 0; (at = text.find('\n', at)) != std::string::npos; at += end.size()) {
    text.replace(at, 1, end);
  }
  return text;
}

std::vector<SequenceRecord> sequences(const std::string& path,
                                      const SequenceReaderOptions& options = {}) {
  SequenceReader reader({path}, options);
  std::vector<SequenceRecord> records;
  for (SequenceRecord record; reader.next(record);) records.push_back(record);
  return records;
}

TEST(Genbank, Sequences) {
  TempDir dir;
  for (const char* end : {"\n", "\r\n", "\r"}) {
    const std::string text = with_line_ends(kTwoRecords, end);
    const InputFile pieces = InputFile::pieces(text);
    for (const std::string& path :
         {put(dir / "a", text), put(dir / "b", gzip(text)), pieces.path(),
          put(dir / "c", text.substr(0, text.size() - std::string(end).size())),
          put(dir / "d", text + ">f" + end + "AC")}) {
      const auto records = sequences(path);
      ASSERT_EQ(records.size(), path == dir / "d" ? 3U : 2U);
      EXPECT_EQ(records[0].name, "PLASMID.2");
      EXPECT_EQ(records[0].bases,
                "acgtacgtacgtacgtacgtacgtacgtacgtacgtacgtacgtacgtacgtacgtacgtnryacgtacg");
      EXPECT_TRUE(records[0].circular);
      EXPECT_EQ(records[1].name, "contig_2");
      EXPECT_EQ(records[1].bases, "ACGT");
      EXPECT_FALSE(records[1].circular);
    }
  }
}

TEST(Genbank, Features) {
  TempDir dir;
  for (const char* end : {"\n", "\r\n", "\r"}) {
    const FeatureFile file = read_features(put(dir / "f", with_line_ends(kTwoRecords, end)));
    ASSERT_EQ(file.features.size(), 5U);  // 12^13 has no base
    EXPECT_EQ(file.circular, (std::set<std::string>{"PLASMID.2"}));
    const std::vector<Feature>& f = file.features;
    EXPECT_EQ(f[0].type, "source");
    EXPECT_EQ(f[0].name, "PLASMID.2:1-70");
    EXPECT_EQ(f[1].name, "p_1");
    EXPECT_EQ(f[1].seqid, "PLASMID.2");
    EXPECT_EQ(f[1].type, "CDS");
    EXPECT_EQ(f[1].strand, '-');
    EXPECT_EQ(f[1].line, 12);
    EXPECT_EQ(f[1].parts, (std::vector<Interval>{{0, 9}, {19, 22}, {60, 70}}));
    EXPECT_EQ(place_feature(f[1], "f", 70, true), (std::vector<Interval>{{60, 79}, {89, 92}}));
    EXPECT_EQ(f[2].name, "abc");
    EXPECT_EQ(f[2].begin, 2);
    EXPECT_EQ(f[2].end, 5);
    EXPECT_EQ(f[3].type, "tRNA");  // 65..4 on a circular record
    EXPECT_EQ(f[3].begin, 64);
    EXPECT_EQ(f[3].end, 74);
    EXPECT_EQ(f[4].seqid, "contig_2");
    EXPECT_EQ(f[4].begin, 1);
    EXPECT_EQ(f[4].end, 2);
  }
  const auto genes = read_features(dir / "f", {.type = "CDS", .name_attribute = "gene"}).features;
  ASSERT_EQ(genes.size(), 2U);
  EXPECT_EQ(genes[0].name, "rep \"A\"");
  EXPECT_TRUE(contains(
      error_of(ErrorKind::kInput, [&] { read_features(dir / "f", {.type = "rRNA"}); }), "'rRNA'"));
  EXPECT_TRUE(contains(
      error_of(ErrorKind::kInput, [&] { read_features(dir / "f", {.name_attribute = "product"}); }),
      "'product'"));
}

// What a location means, or why it means nothing, in a record of 100 nt.
TEST(Genbank, Locations) {
  const auto text_of = [](const std::string& location, bool circular) {
    Feature f;
    bool remote = false;
    const std::string problem = parse_location(location, "R.1", 100, circular, f, remote);
    if (!problem.empty()) return "! " + problem;
    if (remote) return std::string("remote");
    std::string text(1, f.strand);
    std::vector<Interval> parts = f.parts;
    if (parts.empty()) parts.push_back({f.begin, f.end});
    for (const Interval& p : parts) {
      text += " " + std::to_string(p.begin) + "-" + std::to_string(p.end);
    }
    return text;
  };
  const std::string strange = "! is not understood";
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"1..100", "+ 0-100"},
      {"<1..>100", "+ 0-100"},
      {">7..<9", "+ 6-9"},
      {"7..9>", "+ 6-9"},
      {"5", "+ 4-5"},
      {"complement(5..9)", "- 4-9"},
      {"complement(complement(5..9))", "+ 4-9"},
      {"join(5..9,20..30)", "+ 4-9 19-30"},
      {"order(5..9,20..30)", "+ 4-9 19-30"},
      {"join(5..9)", "+ 4-9"},
      {"complement(join(5..9,20..30))", "- 4-9 19-30"},
      {"join(complement(20..30),complement(5..9))", "- 19-30 4-9"},
      {"join(complement(5..9),20..30)", ". 4-9 19-30"},
      {"join(5..9,join(20..30,40))", "+ 4-9 19-30 39-40"},
      {"12^13", "+ 0-0"},
      {"R.1:5..9", "+ 4-9"},
      {"R:5..9", "+ 4-9"},
      {"join(1..2,S00001.1:5..9)", "remote"},
      {"S:complement(5..9)", strange},
      {"5..101", "! ends at 101, record 'R.1' at 100"},
      {"101", "! ends at 101, record 'R.1' at 100"},
      {"join(1..5,90..200)", "! ends at 200, record 'R.1' at 100"},
      {"9..5", "! begins after its end"},
      {"0..5", strange},
      {"-1..5", strange},
      {"1.5", strange},
      {"(1.5)..9", strange},
      {"one-of(1,5)..9", strange},
      {"1..", strange},
      {"..5", strange},
      {"", strange},
      {"join(", strange},
      {"join()", strange},
      {"join(1..5", strange},
      {"join(1..5,)", strange},
      {"complement(1..5))", strange},
      {"1..5 x", strange},
      {"99999999999999999999..5", strange},
      {"a:b:1..5", strange},
  };
  for (const auto& [location, want] : cases) EXPECT_EQ(text_of(location, false), want) << location;
  EXPECT_EQ(text_of("90..5", true), "+ 89-105");
  EXPECT_EQ(text_of("complement(90..5)", true), "- 89-105");
  std::string deep;
  for (int i = 0; i < 100000; ++i) deep += "join(";
  EXPECT_EQ(text_of(deep, false), "! is nested too deep");
}

TEST(Genbank, RefusalsNameTheLine) {
  TempDir dir;
  const auto refusal = [&](const std::string& text, bool features) {
    const std::string path = put(dir / "f", text);
    const std::string message = error_of(ErrorKind::kInput, [&] {
      if (features) {
        read_features(path);
      } else {
        sequences(path);
      }
    });
    EXPECT_EQ(message.find(path), 0U) << message;
    EXPECT_EQ(message.find('\n'), std::string::npos);
    return message;
  };
  const std::string locus = "LOCUS       A 4 bp DNA\n", origin = "ORIGIN\n        1 acgt\n";
  const std::string features = "FEATURES             Location/Qualifiers\n";
  EXPECT_TRUE(contains(refusal(locus + origin, false), "record 'A': line 4: truncated"));
  EXPECT_TRUE(contains(refusal(locus, false), "truncated"));
  EXPECT_TRUE(contains(refusal(locus + "//\n", false), "record 'A': no sequence (--skip-empty"));
  EXPECT_TRUE(contains(refusal(locus + "CONTIG      join(B:1..4)\n//\n", false),
                       "no sequence: it has CONTIG in place of ORIGIN"));
  EXPECT_TRUE(contains(refusal("LOCUS       A 5 bp DNA\n" + origin + "//\n", false),
                       "LOCUS says 5 bp, ORIGIN has 4"));
  EXPECT_TRUE(contains(refusal("LOCUS       A 4 aa\n" + origin + "//\n", false), "a protein"));
  EXPECT_TRUE(contains(refusal("LOCUS\n" + origin + "//\n", false), "no name"));
  EXPECT_TRUE(contains(refusal(locus + "ORIGIN\n       61 acgt\n//\n", false),
                       "line 3: a line of ORIGIN begins with the position"));
  EXPECT_TRUE(contains(refusal(locus + "ORIGIN\n acgt\n//\n", false), "of base 1, with 'acgt'"));
  EXPECT_TRUE(contains(refusal(locus + origin + locus + origin + "//\n", false),
                       "line 4: a record begins before the //"));
  EXPECT_TRUE(contains(refusal(locus + "ORIGIN\n        1 ac\x01g\n//\n", false), "byte 0x01"));
  EXPECT_TRUE(contains(refusal("LOCUSX A\n", false), "neither FASTA, FASTQ nor GenBank: 'L'"));

  EXPECT_TRUE(contains(refusal(locus + features + "     CDS             1..5\n//\n", true),
                       "line 3: the location '1..5' ends at 5, record 'A' at 4"));
  EXPECT_TRUE(contains(refusal(locus + features +
                                   "     CDS             join(1..2,\n"
                                   "                     /gene=a\n//\n",
                               true),
                       "line 3: the location 'join(1..2,' is not understood"));
  EXPECT_TRUE(contains(refusal(locus + features + "     CDS             1..2\n", true),
                       "record 'A': truncated"));
  EXPECT_TRUE(contains(refusal(locus + features + "//\n", true), "no features"));
  EXPECT_TRUE(contains(refusal(locus + features + "                     /gene=a\n//\n", true),
                       "line 3: this line belongs to no feature"));
  EXPECT_TRUE(
      contains(refusal(locus + features + "     CDS             1..2\nORIGIN\n//\nx\n", true),
               "line 6: a record of GenBank begins with LOCUS"));
  EXPECT_TRUE(contains(refusal(locus + locus, true), "line 2: a record begins before"));
  EXPECT_TRUE(contains(refusal(locus + features + "     CDS             B.1:1..2\n//\n", true),
                       "no features"));  // with a warning
  // Cut anywhere: an error, or, before the name is whole, another file.
  const std::string packed = gzip(kTwoRecords);
  for (std::size_t cut = 0; cut < packed.size(); ++cut) {
    refusal(packed.substr(0, cut), false);
    refusal(packed.substr(0, cut), true);
  }
  const std::size_t second = kTwoRecords.find("LOCUS       contig_2");
  for (std::size_t cut = 0; cut + 1 < kTwoRecords.size(); ++cut) {
    if (cut + 2 >= second && cut <= second) continue;  // after the // of the first
    refusal(kTwoRecords.substr(0, cut), false);
    if (cut > 6) refusal(kTwoRecords.substr(0, cut), true);
  }
}

TEST(Genbank, SkipsRecordsWithoutSequence) {
  TempDir dir;
  const std::string path = put(dir / "f", "LOCUS A 9 bp\nCONTIG join(B:1..9)\n//\n" + kTwoRecords);
  EXPECT_EQ(sequences(path, {.skip_empty = true}).size(), 2U);
}

TEST(CircularList, Formats) {
  TempDir dir;
  using Names = std::set<std::string>;
  const auto names = [&](const std::string& text) {
    return read_circular_list(put(dir / "l", text));
  };
  EXPECT_EQ(names("a\n# b\n\nc.1  \r\n"), (Names{"a", "c.1"}));
  EXPECT_EQ(names(""), Names{});
  const std::string flye =
      "#seq_name\tlength\tcov.\tcirc.\trepeat\tmult.\talt_group\tgraph_path\n"
      "contig_1\t4600000\t50\tY\tN\t1\t*\t1\ncontig_2\t900\t9\tN\tY\t2\t*\t2\n"
      "contig_3\t5000\t80\t+\t-\t1\t*\t3\n";
  EXPECT_EQ(names(flye), (Names{"contig_1", "contig_3"}));
  EXPECT_EQ(names(gzip(flye)), (Names{"contig_1", "contig_3"}));
  EXPECT_EQ(names(">1 length=5000 depth=1.00x circular=true\nACGT\nchr\n>2 length=9 depth=3x\n"
                  "> 3 circular=true\n"),
            (Names{"1", "3"}));
  const auto refusal = [&](const std::string& text) {
    return error_of(ErrorKind::kInput, [&] { names(text); });
  };
  EXPECT_TRUE(contains(refusal("a\nb c\n"), "line 2: a list has one name a line"));
  EXPECT_TRUE(contains(refusal("#seq_name\tlength\n"), "line 1: a table of Flye has a column"));
  EXPECT_TRUE(contains(refusal(flye + "x\t1\n"), "line 5: fewer columns"));
  EXPECT_TRUE(contains(refusal(flye + "x\t1\t1\tmaybe\t1\n"), "circ. is 'maybe'"));
  error_of(ErrorKind::kIo, [&] { read_circular_list(dir / "none"); });
}

}  // namespace
}  // namespace m5
