// Counts and means of a scoring run, as JSON (with every record) or as a TSV with a row a file.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "base/output.hpp"
#include "m5/tokens.hpp"
#include "nn/scoring.hpp"

namespace m5 {

struct RecordSummary {
  std::size_t file = 0;  // index into ScoreSummary::files
  std::string name;
  bool circular = false;
  std::int64_t bases = 0;    // length, nt
  std::int64_t scored = 0;   // A, C, G, T
  std::int64_t n = 0;        // N
  std::int64_t other = 0;    // other IUPAC codes
  double nll = 0;            // sum over the scored bases, nats
  std::int64_t correct = 0;  // scored bases that are the most probable one

  // Adds the scores of the record; log_probs must be there. Throws Error(kNumeric) naming the
  // record if its perplexity is no finite number: a summary has numbers only.
  void add(const Token* tokens, const SequenceScores& scores);
  // The counts and sums of the other, too.
  RecordSummary& operator+=(const RecordSummary& other);
};

// One row of the TSV.
struct SummaryFile {
  std::string sample, path;
};

struct ScoreSummary {
  std::vector<SummaryFile> files;  // of the input, no path twice
  std::deque<RecordSummary> records;
  std::string model_name, model_sha256;
  int passes = 0;       // 0: unmasked
  bool memory = false;  // the genome memory was used
  std::string strand, context, precision;
};

// Bytes that a record with a name of that length adds to a summary.
std::uint64_t summary_memory(std::size_t name);

// Format by suffix of the file: .json or .tsv; Error(kUsage) for another. Means over no base are
// null in JSON and empty in TSV. The TSV is custom content of MultiQC as it stands: sample first,
// and `#` lines before the header that say how its columns are shown. The file is the caller's to
// commit; throws Error(kIo).
void write_summary(const ScoreSummary& summary, OutputFile& file);
// Throws the Error(kUsage) of write_summary before anything is computed.
void check_summary_path(const std::string& path);

}  // namespace m5
