// BED, GFF3 and GenBank: in pieces as in one. The first byte chooses the reader.
#include <vector>

#include "io/features.hpp"
#include "tests/fuzz/fuzz_input.hpp"

using namespace m5;

namespace {

struct Outcome {
  std::vector<Feature> features;
  std::string refusal;
};

Outcome read(const fuzz::InputFile& file, int reader) {
  Outcome outcome;
  outcome.refusal = fuzz::refusal({ErrorKind::kInput, ErrorKind::kIo}, file.path(), [&] {
    outcome.features = reader == 0   ? read_bed(file.path())
                       : reader == 1 ? read_features(file.path()).features
                                     : read_features(file.path(), {.type = "CDS"}).features;
    FUZZ_REQUIRE(!outcome.features.empty());
  });
  return outcome;
}

void check(const Feature& f) {
  FUZZ_REQUIRE(!f.seqid.empty() && !f.name.empty());
  FUZZ_REQUIRE(f.begin >= 0 && f.begin < f.end);
  FUZZ_REQUIRE(f.strand == '+' || f.strand == '-' || f.strand == '.');
  FUZZ_REQUIRE(f.line > 0);
  FUZZ_REQUIRE(f.parts.size() != 1);
  std::int64_t end = f.begin - 1;
  for (const Interval& part : f.parts) {
    FUZZ_REQUIRE(part.begin > end && part.begin < part.end);
    end = part.end;
  }
  FUZZ_REQUIRE(f.parts.empty() || (f.parts.front().begin == f.begin && end == f.end));
  for (const bool circular : {false, true}) {
    std::vector<Interval> placed;
    const std::int64_t length = f.begin + (f.end - f.begin) / 2 + 1;
    if (circular) {
      fuzz::refusal({ErrorKind::kInput}, "f",
                    [&] { placed = place_feature(f, "f", length, true); });
    } else {
      placed = place_feature(f, "f", f.end, false);
    }
    std::int64_t bases = 0;
    for (std::size_t i = 0; i < placed.size(); ++i) {
      bases += placed[i].end - placed[i].begin;
      FUZZ_REQUIRE(i == 0 || placed[i].begin > placed[i - 1].end);
    }
    FUZZ_REQUIRE(bases <= (circular ? length : f.end));
  }
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  set_log(0, "fuzz");
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  const Outcome whole = read(fuzz::InputFile::whole(bytes), data[0] % 3);
  const Outcome pieces = read(fuzz::InputFile::pieces(bytes), data[0] % 3);
  FUZZ_REQUIRE(whole.refusal == pieces.refusal);
  FUZZ_REQUIRE(whole.features.size() == pieces.features.size());
  for (std::size_t i = 0; i < whole.features.size(); ++i) {
    const Feature& a = whole.features[i];
    const Feature& b = pieces.features[i];
    FUZZ_REQUIRE(a.seqid == b.seqid && a.begin == b.begin && a.end == b.end &&
                 a.strand == b.strand && a.name == b.name && a.type == b.type && a.line == b.line);
    check(a);
  }
  return 0;
}
