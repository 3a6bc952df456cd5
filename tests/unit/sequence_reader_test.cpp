#include "io/sequence_reader.hpp"

#include <unistd.h>

#include <functional>

#include "base/log.hpp"
#include "base/random.hpp"
#include "data/tokenizer.hpp"
#include "tests/unit/input_file.hpp"
#include "tests/unit/temp_dir.hpp"

namespace m5 {
namespace {

using test::bgzf_block;
using test::contains;
using test::error_of;
using test::gzip;
using test::InputFile;
using test::put;
using test::TempDir;

std::vector<SequenceRecord> read_files(const std::vector<std::string>& paths,
                                       const SequenceReaderOptions& options = {}) {
  SequenceReader reader(paths, options);
  std::vector<SequenceRecord> records;
  SequenceRecord record;
  while (reader.next(record)) records.push_back(record);
  EXPECT_EQ(reader.records(), static_cast<std::int64_t>(records.size()));
  EXPECT_FALSE(reader.next(record));
  return records;
}

class Sequences : public testing::Test {
 protected:
  // "name:bases name:bases", for short comparisons. A pipe that brings the text in pieces gives the
  // same, or the same error.
  std::string summary(const std::string& text, const SequenceReaderOptions& options = {}) {
    std::string out;
    for (const SequenceRecord& r : read_files({put(dir_ / "in", text)}, options)) {
      out += (out.empty() ? "" : " ") + r.name + ":" + r.bases;
    }
    if (text.size() > InputFile::kLongestInPieces) return out;
    std::string of_pieces;
    const InputFile pipe = InputFile::pieces(text);
    for (const SequenceRecord& r : read_files({pipe.path()}, options)) {
      of_pieces += (of_pieces.empty() ? "" : " ") + r.name + ":" + r.bases;
    }
    EXPECT_EQ(of_pieces, out) << text;
    return out;
  }
  std::string refusal(const std::string& text) {
    put(dir_ / "in", text);
    const std::string path = dir_ / "in";
    const std::string message = error_of(ErrorKind::kInput, [&] { read_files({path}); });
    EXPECT_EQ(message.find(path), 0U) << message;
    if (text.size() > InputFile::kLongestInPieces) return message;
    const InputFile pipe = InputFile::pieces(text);
    const std::string of_pieces = error_of(ErrorKind::kInput, [&] { read_files({pipe.path()}); });
    EXPECT_EQ(of_pieces, pipe.path() + message.substr(path.size()));
    return message;
  }
  TempDir dir_;
};

TEST_F(Sequences, Fields) {
  const auto records =
      read_files({put(dir_ / "in", ">chr1 E. coli\tK-12  strain \nACGT\nNNac\n>p|2\nT\n")});
  ASSERT_EQ(records.size(), 2U);
  EXPECT_EQ(records[0].file, dir_ / "in");
  EXPECT_EQ(records[0].name, "chr1");
  EXPECT_EQ(records[0].description, "E. coli\tK-12  strain");
  EXPECT_EQ(records[0].bases, "ACGTNNac");
  EXPECT_FALSE(records[0].circular);
  EXPECT_EQ(records[1].name, "p|2");
  EXPECT_EQ(records[1].description, "");
}

TEST_F(Sequences, LayoutDoesNotMatter) {
  const std::string expected = "a:ACGTAC b:TTGG";
  for (const char* text :
       {">a\nACGTAC\n>b\nTTGG\n", ">a\nACGTAC\n>b\nTTGG", ">a\r\nACGT\r\nAC\r\n>b\r\nTTGG\r\n",
        ">a\rACG\rTAC\r>b\rTTGG\r", ">a\nA\nC\nG\nT\nA\nC\n>b\nTT\nGG\n",
        "\n\n>a\nACGTAC\n\n\n>b\n\nTT\n\nGG\n\n\n", ">a   \nACGT AC  \n>b\t\n TTGG\t\n",
        "  \n>a\nACG\tTAC\n \n>b\nTTGG\n   ", ">a\nACGTAC\r\n>b\rTTGG\n\r",
        "\xef\xbb\xbf>a\nACGTAC\n>b\nTTGG\n", "> a\nACGTAC\n> b\nTTGG\n",
        "@a\nACGTAC\n+\nIIIIII\n@b\nTTGG\n+\n!!~~\n",
        "@a x\nACGTAC\n+a x\nIIIIII\n@b\nTTGG\n+b\nIIII",
        "@a\nACG\nTAC\n+\nII\n@I\n+I\n@b\nTT\nGG\n+\n@+\n>I\n",
        "@a\r\nACGTAC\r\n+\r\nIIIIII\r\n\r\n@b\r\nTTGG\r\n+\r\nIIII\r\n",
        "@a\rACGTAC\r+\rIIIIII\r@b\rTTGG\r+\rIIII", ">a\nACGTAC\n@b\nTTGG\n+\nIIII\n",
        "@a\nACGTAC\n+\nIIIIII\n>b\nTTGG\n"}) {
    EXPECT_EQ(summary(text), expected) << text;
  }
}

TEST_F(Sequences, CompressionDoesNotMatter) {
  const std::string a = ">a\nACGT", b = "AC\n>b\nTTGG\n", expected = "a:ACGTAC b:TTGG";
  EXPECT_EQ(summary(gzip(a + b)), expected);
  EXPECT_EQ(summary(gzip(a) + gzip(b)), expected);
  EXPECT_EQ(summary(bgzf_block(a) + bgzf_block(b) + bgzf_block("")), expected);
  EXPECT_EQ(summary(bgzf_block(a) + bgzf_block("") + bgzf_block(b) + bgzf_block("")), expected);
}

TEST_F(Sequences, StandardInput) {
  put(dir_ / "in", gzip(">a\nACGT\n"));
  const int saved = dup(STDIN_FILENO);
  ASSERT_NE(freopen((dir_ / "in").c_str(), "r", stdin), nullptr);
  const auto records = read_files({"-"});
  dup2(saved, STDIN_FILENO);
  close(saved);
  ASSERT_EQ(records.size(), 1U);
  EXPECT_EQ(records[0].file, "-");
  EXPECT_EQ(records[0].bases, "ACGT");
}

TEST_F(Sequences, SeveralFiles) {
  const auto records =
      read_files({put(dir_ / "1", ">a\nA\n"), put(dir_ / "2", gzip("@b\nC\n+\nI\n")),
                  put(dir_ / "3", ">c\nG")});
  ASSERT_EQ(records.size(), 3U);
  EXPECT_EQ(records[2].file_index, 2);
  EXPECT_EQ(records[2].file, dir_ / "3");
  error_of(ErrorKind::kInput, [&] { read_files({dir_ / "1", put(dir_ / "e", "")}); });
  error_of(ErrorKind::kIo, [&] { read_files({dir_ / "1", dir_ / "none"}); });
}

TEST_F(Sequences, EmptyInputs) {
  EXPECT_TRUE(contains(refusal(""), "no sequence records"));
  EXPECT_TRUE(contains(refusal("\n \r\n"), "no sequence records"));
  EXPECT_TRUE(contains(refusal(gzip("")), "no sequence records"));
  EXPECT_TRUE(contains(error_of(ErrorKind::kInput, [] { read_files({"/dev/null"}); }),
                       "no sequence records"));
  for (const char* text :
       {">a", ">a\n", ">a\n\n>b\nAC\n", ">b\nAC\n>a\n", "@a\n\n+\n\n@b\nAC\n+\nII\n"}) {
    EXPECT_TRUE(contains(refusal(text), "record 'a': no sequence (--skip-empty")) << text;
  }
}

TEST_F(Sequences, SkipEmpty) {
  SequenceReaderOptions options;
  options.skip_empty = true;
  testing::internal::CaptureStderr();
  SequenceReader reader({put(dir_ / "in", ">a\n>b\nAC\n>c\n\n>d\nG\n>e")}, options);
  SequenceRecord record;
  std::string names;
  while (reader.next(record)) names += record.name;
  EXPECT_EQ(names, "bd");
  EXPECT_EQ(reader.records(), 2);
  EXPECT_EQ(reader.empty_records(), 3);
  const std::string talk = testing::internal::GetCapturedStderr();
  EXPECT_EQ(std::count(talk.begin(), talk.end(), '\n'), 1) << talk;
}

TEST_F(Sequences, NotSequences) {
  EXPECT_TRUE(contains(refusal("ACGT\n"), "line 1: neither FASTA, FASTQ nor GenBank: 'A'"));
  EXPECT_TRUE(contains(refusal("\n\n;x\n>a\nACGT\n"), "line 3: "));
  EXPECT_TRUE(contains(refusal("%PDF-1.4\n>a\nA\n"), "neither"));
  EXPECT_TRUE(contains(refusal("LOCUS   NC_000913\n"), "truncated"));
  EXPECT_TRUE(contains(refusal("BZh91AY"), "bzip2"));
  EXPECT_TRUE(contains(refusal(std::string("\xfd") + "7zXZ"), "xz"));
  EXPECT_TRUE(contains(refusal("\x28\xb5\x2f\xfd...."), "zstd"));
  EXPECT_TRUE(contains(refusal(bgzf_block(std::string("BAM\1\0\0", 6)) + bgzf_block("")), "BAM"));
  EXPECT_TRUE(contains(refusal(std::string("\0\0", 2)), "byte 0x00"));
  EXPECT_TRUE(contains(refusal("\n\n  CRAM"), "line 3: this is BAM or CRAM"));
  EXPECT_TRUE(contains(refusal("\xef\xbb\xbf"), "the file is empty"));  // a UTF-8 mark alone
  EXPECT_TRUE(contains(refusal("@HD\tVN:1.6\n@SQ\tSN:a\n"), "record 'HD'"));
}

TEST_F(Sequences, BrokenHeaders) {
  EXPECT_TRUE(contains(refusal(">\nACGT\n"), "line 1: header without a name"));
  EXPECT_TRUE(contains(refusal(">a\nAC\n>  \nACGT\n"), "line 3: header without a name"));
  EXPECT_TRUE(contains(refusal(std::string(">a\0b\nACGT\n", 10)), "NUL"));
}

TEST_F(Sequences, BinaryInTheSequence) {
  EXPECT_TRUE(contains(refusal(std::string(">a\nAC\nG\0T\n", 11)),
                       "record 'a': line 3: byte 0x00 after 3 nt"));
  EXPECT_TRUE(contains(refusal(">a\nAC\x1bGT\n"), "byte 0x1b"));
}

TEST_F(Sequences, LettersAreLeftToTheTokenizer) {
  EXPECT_EQ(summary(">a\nMKVL*-1\xc3\n"), "a:MKVL*-1\xc3");
  EXPECT_EQ(summary(">a\nACGT>b\nAC\n"), "a:ACGT>bAC");
}

TEST_F(Sequences, BrokenFastq) {
  EXPECT_TRUE(contains(refusal("@a\nACGT\n"), "no '+' line"));
  EXPECT_TRUE(
      contains(refusal("@a\nACGT\n@b\nAC\n+\nII\n"), "record 'a': line 3: truncated FASTQ"));
  EXPECT_TRUE(contains(refusal("@a\nACGT\n+\n"), "4 bases but 0 quality values"));
  EXPECT_TRUE(contains(refusal("@a\nACGT\n+\nIII\n"), "4 bases but 3 quality values"));
  EXPECT_TRUE(contains(refusal("@a\nACGT\n+\nIIIII\n"), "more quality values (5) than bases (4)"));
  EXPECT_TRUE(contains(refusal("@a\nACGT\n+\nIIII\nI\n"), "text after a FASTQ record"));
  EXPECT_TRUE(contains(refusal("@a\nACGT\n+b\nIIII\n"), "names another record"));
  EXPECT_TRUE(contains(refusal("@a\nACGT\n+\nII\x01I\n"), "quality"));
  // Too few values swallow the next record, and are then too many or too few.
  EXPECT_TRUE(contains(refusal("@a\nACGT\n+\nIII\n@b\nAC\n+\nII\n"), "record 'a'"));
}

// Every prefix of a compressed file is an error, and none of a FASTQ file passes unnoticed in the
// middle of a record.
TEST_F(Sequences, TruncatedAnywhere) {
  std::string text = ">a\n", more;
  for (std::uint64_t i = 0; i < 400; ++i) text += "ACGT"[random_bits(1, i) % 4];
  for (std::uint64_t i = 0; i < 400; ++i) more += "ACGT"[random_bits(2, i) % 4];
  const std::string packed = gzip(text + more + "\n>b\nACGT\n");
  for (std::size_t cut = 0; cut < packed.size(); ++cut) refusal(packed.substr(0, cut));
  const std::string blocked =
      bgzf_block(text) + bgzf_block(more + "\n>b\n") + bgzf_block("ACGT\n") + bgzf_block("");
  for (std::size_t cut = 0; cut < blocked.size(); ++cut) refusal(blocked.substr(0, cut));
  EXPECT_EQ(summary(packed), summary(blocked));

  const std::string fastq = "@r1 x\nACGTACGT\n+\nIIIIIIII\n@r2\nAC\n+\nII\n";
  for (std::size_t cut = 0; cut < fastq.size(); ++cut) {
    const std::string part = fastq.substr(0, cut);
    // Whole records may end without, with, or with half of a line end.
    if (cut == 25 || cut == 26) {
      EXPECT_EQ(summary(part), "r1:ACGTACGT");
    } else if (cut == fastq.size() - 1) {
      EXPECT_EQ(summary(part), "r1:ACGTACGT r2:AC");
    } else {
      refusal(part);
    }
  }
}

// A record whose end was not seen must not be returned before the damage is.
TEST_F(Sequences, DamagedRecordIsNotReturned) {
  const std::string packed = gzip(">a\nACGT\n>b\nACGTACGTACGT\n");
  put(dir_ / "in", packed.substr(0, packed.size() - 1));
  SequenceReader reader({dir_ / "in"});
  SequenceRecord record;
  std::string seen;
  error_of(ErrorKind::kInput, [&] {
    while (reader.next(record)) seen += record.name;
  });
  EXPECT_FALSE(contains(seen, "b"));
}

TEST_F(Sequences, MissingEndBlock) {
  const std::string cut = bgzf_block(">a\nACGT\n");
  EXPECT_TRUE(contains(refusal(cut), "--allow-no-eof"));
  SequenceReaderOptions options;
  options.allow_no_eof = true;
  testing::internal::CaptureStderr();
  EXPECT_EQ(summary(cut, options), "a:ACGT");
  EXPECT_TRUE(contains(testing::internal::GetCapturedStderr(), "end-of-file block is missing"));
}

TEST_F(Sequences, Circular) {
  for (const char* yes :
       {"a topology=circular", "a [topology=circular]", "a length=5 circular=true",
        "a Circular=TRUE", "a;circular=true", "a [organism=x] [Topology=Circular] z"}) {
    EXPECT_TRUE(header_says_circular(yes)) << yes;
  }
  for (const char* no : {"a", "a circular", "a topology=linear", "a circular=false",
                         "a notcircular=true", "a circular=trues", "a topology=circularx", ""}) {
    EXPECT_FALSE(header_says_circular(no)) << no;
  }
  const auto records = read_files({put(dir_ / "in", ">a circular=true\nAC\n>b\nAC\n")});
  EXPECT_TRUE(records[0].circular);
  EXPECT_FALSE(records[1].circular);
}

TEST_F(Sequences, DuplicateNamesWarnOnce) {
  testing::internal::CaptureStderr();
  read_files({put(dir_ / "in", ">a\nA\n>b\nA\n>a\nA\n>b\nA\n>a\nA\n")});
  const std::string talk = testing::internal::GetCapturedStderr();
  EXPECT_TRUE(contains(talk, "'a' occurs more than once"));
  EXPECT_EQ(std::count(talk.begin(), talk.end(), '\n'), 1) << talk;
  testing::internal::CaptureStderr();  // of two files: the reader of records knows the file
  read_files({put(dir_ / "in", ">a\nA\n"), put(dir_ / "other", ">a\nA\n")});
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
  SequenceReaderOptions options;
  options.warn_duplicates = false;
  testing::internal::CaptureStderr();
  summary(">a\nA\n>a\nA\n", options);
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

TEST_F(Sequences, HugeHeader) {
  const std::string huge(1 << 20, 'h');
  const auto records = read_files({put(dir_ / "in", ">a " + huge + "\nACGT\n>" + huge + "\nAC\n")});
  EXPECT_EQ(records[0].description, huge);
  EXPECT_EQ(records[1].name, huge);
  EXPECT_TRUE(contains(refusal(">" + std::string(17 << 20, 'h')), "16 MiB"));
}

// Records laid out at random, read back from every line end and compression, with line ends on both
// sides of buffer boundaries.
TEST_F(Sequences, RandomLayouts) {
  for (std::uint64_t trial = 0; trial < 60; ++trial) {
    const std::uint64_t seed = sub_seed(42, trial);
    std::uint64_t draw = 0;
    const auto below = [&](std::uint64_t n) { return uniform_below(seed, draw++, n); };
    std::string text;
    std::vector<std::string> expected;
    const std::string line_ends[] = {"\n", "\r\n", "\r"};
    const std::string line_end = line_ends[below(3)];
    const std::uint64_t largest = trial % 10 == 0 ? 700000 : 300;
    for (std::uint64_t r = 0; r <= below(6); ++r) {
      std::string bases, quality;
      const std::uint64_t length = 1 + below(largest);
      for (std::uint64_t i = 0; i < length; ++i) {
        bases += "ACGTNacgtn"[random_bits(seed + r, i) % 10];
        quality += static_cast<char>(33 + random_bits(seed + r + 99, i) % 94);
      }
      const bool fastq = below(2) == 1;
      text += (fastq ? "@r" : ">r") + std::to_string(r) + line_end;
      const auto wrap = [&](const std::string& s) {
        std::uint64_t width = 1 + below(2 * largest);
        for (std::size_t at = 0; at < s.size();) {
          text += s.substr(at, width) + (below(20) == 0 ? " " : "") + line_end;
          at += width;
          if (below(3) == 0) width = 1 + below(largest);
          if (below(10) == 0) text += line_end;
        }
      };
      wrap(bases);
      if (fastq) {
        text += "+" + line_end;
        wrap(quality);
      }
      expected.push_back(bases);
    }
    std::string blocks;
    for (std::size_t at = 0; at < text.size(); at += 60000)
      blocks += bgzf_block(text.substr(at, 60000));
    for (const std::string& bytes : {text, gzip(text), blocks + bgzf_block("")}) {
      const auto records = read_files({put(dir_ / "in", bytes)});
      ASSERT_EQ(records.size(), expected.size());
      for (std::size_t r = 0; r < records.size(); ++r) {
        // Not ASSERT_EQ: it would print hundreds of thousands of letters.
        ASSERT_TRUE(records[r].bases == expected[r])
            << "trial " << trial << " record " << r << ": " << records[r].bases.size() << " of "
            << expected[r].size();
      }
    }
  }
}

// Random bytes end in records or in Error(kInput), nothing else; tokenize() agrees.
TEST_F(Sequences, RandomBytes) {
  const std::string alphabet = ">@+\n\r ACGTNacgt\tI!~-*7\x01\xff";
  for (std::uint64_t trial = 0; trial < 3000; ++trial) {
    std::string text(1, trial % 2 == 0 ? '>' : '@');
    const std::uint64_t length = random_bits(trial, 0) % 60;
    for (std::uint64_t i = 1; i <= length; ++i)
      text += alphabet[random_bits(trial, i) % alphabet.size()];
    put(dir_ / "in", text);
    SequenceReaderOptions options;
    options.warn_duplicates = false;
    try {
      for (const SequenceRecord& r : read_files({dir_ / "in"}, options)) {
        ASSERT_FALSE(r.name.empty());
        ASSERT_FALSE(r.bases.empty());
        tokenize(r.bases, r.file, r.name);
      }
    } catch (const Error& error) {
      ASSERT_EQ(error.kind(), ErrorKind::kInput) << error.what();
    }
  }
}

TEST_F(Sequences, ManyTinyRecords) {
  std::string text;
  for (int i = 0; i < 100000; ++i) text += ">r" + std::to_string(i) + "\nACGT\n";
  SequenceReader reader({put(dir_ / "in", text)});
  SequenceRecord record;
  std::int64_t bases = 0;
  while (reader.next(record)) bases += static_cast<std::int64_t>(record.bases.size());
  EXPECT_EQ(reader.records(), 100000);
  EXPECT_EQ(bases, 400000);
  EXPECT_EQ(record.name, "r99999");
}

}  // namespace
}  // namespace m5
