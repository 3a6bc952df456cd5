// Where scores go: one class per format, made by make_score_sink.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/output.hpp"
#include "m5/tokens.hpp"
#include "nn/scoring.hpp"

namespace m5 {

struct ScoreSinkOptions {
  std::string path = "-";  // *.gz, *.bgz, *.bgzf: BGZF
  Metric metric = Metric::kPerplexity;
  std::int64_t bin = 0;             // nt a bin; 0: one value a base
  int digits = 4;                   // decimals
  std::vector<std::string> header;  // provenance lines, each with its leading #
  std::string track_line;           // bedGraph only; comes first, empty: none
  std::string index;                // "tbi" or "csi" (tabix.hpp), empty: none
};

// A stretch of one record: positions [begin, end) of it.
struct ScoredInterval {
  const std::string& name;
  std::int64_t length;           // nt of the whole record
  std::int64_t begin, end;       // 0-based, half open
  const Token* tokens;           // of the record, or of what was scored of it
  const SequenceScores& scores;  // the same
  std::int64_t first = 0;        // position of the first of them

  std::size_t at(std::int64_t position) const { return static_cast<std::size_t>(position - first); }
};

class ScoreSink {
 public:
  virtual ~ScoreSink() = default;
  // Intervals of one record ascend and do not overlap. Throws Error(kIo), and Error(kNumeric) for a
  // value no number can hold.
  virtual void write(const ScoredInterval& interval) = 0;
  virtual void flush() = 0;
  // Writes what is left. The files that want their names: for commit_all, with others of the run.
  virtual std::vector<OutputFile*> finish() = 0;
  // After this they are whole and in place.
  void commit() { commit_all(finish()); }
};

// format: "bedgraph", "bigwig", "npz" or "tsv"; Error(kUsage) otherwise, or when the format cannot
// hold what is asked.
std::unique_ptr<ScoreSink> make_score_sink(const std::string& format,
                                           const ScoreSinkOptions& options);
// The format a file name asks for by its suffix, before that of BGZF: "tsv" for .tsv, "bedgraph"
// for .bedgraph, .bedGraph, .bg, .bdg, .bed or none, and for a stream; "bigwig" for .bw, .bigwig
// and .bigWig, and "npz", which have no BGZF. Error(kUsage) for any other.
std::string score_format_of(const std::string& path);

// Whether this format or metric needs the log-probabilities of all four bases.
bool needs_all_bases(const std::string& format, Metric metric);

// Bytes a sink keeps of an interval of a record with a name of that length until commit.
std::uint64_t score_interval_memory(const std::string& format, std::size_t name);

}  // namespace m5
