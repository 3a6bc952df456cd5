// FASTA, FASTQ and GenBank, plain, gzip and BGZF: in pieces as in one. The first byte chooses the
// options.
#include <algorithm>
#include <vector>

#include "data/tokenizer.hpp"
#include "io/sequence_reader.hpp"
#include "tests/fuzz/fuzz_input.hpp"

using namespace m5;

namespace {

struct Outcome {
  std::vector<SequenceRecord> records;
  std::string refusal;
};

Outcome read(const fuzz::InputFile& file, const SequenceReaderOptions& options) {
  Outcome outcome;
  outcome.refusal = fuzz::refusal({ErrorKind::kInput, ErrorKind::kIo}, file.path(), [&] {
    SequenceReader reader({file.path()}, options);
    for (SequenceRecord record; reader.next(record);) outcome.records.push_back(record);
    FUZZ_REQUIRE(reader.records() == static_cast<std::int64_t>(outcome.records.size()));
    FUZZ_REQUIRE(reader.records() + reader.empty_records() > 0);
  });
  return outcome;
}

void check(const SequenceRecord& record) {
  FUZZ_REQUIRE(!record.name.empty());
  FUZZ_REQUIRE(!record.bases.empty());
  for (const char c : record.bases) FUZZ_REQUIRE(static_cast<unsigned char>(c) > 32 && c != 127);
  BaseCounts counts;
  fuzz::refusal({ErrorKind::kInput}, "F", [&] {
    const std::vector<Token> tokens = tokenize(record.bases, "F", record.name, &counts);
    FUZZ_REQUIRE(tokens.size() == record.bases.size());
    std::vector<Token> other = tokens;
    reverse_complement(other);
    reverse_complement(other);
    FUZZ_REQUIRE(other == tokens);
    FUZZ_REQUIRE(counts.n + counts.ambiguous == std::count(tokens.begin(), tokens.end(), kTokenN));
  });
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  set_log(0, "fuzz");
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  SequenceReaderOptions options;
  options.skip_empty = (data[0] & 1) != 0;
  options.allow_no_eof = (data[0] & 2) != 0;
  const Outcome whole = read(fuzz::InputFile::whole(bytes), options);
  const Outcome pieces = read(fuzz::InputFile::pieces(bytes), options);
  FUZZ_REQUIRE(whole.refusal == pieces.refusal);
  FUZZ_REQUIRE(whole.records.size() == pieces.records.size());
  for (std::size_t i = 0; i < whole.records.size(); ++i) {
    const SequenceRecord& a = whole.records[i];
    const SequenceRecord& b = pieces.records[i];
    FUZZ_REQUIRE(a.name == b.name && a.description == b.description && a.bases == b.bases &&
                 a.circular == b.circular);
    check(a);
  }
  return 0;
}
