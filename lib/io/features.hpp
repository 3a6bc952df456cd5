// Annotated features: BED and GFF3 files, plain or gzip.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace m5 {

struct Feature {
  std::string seqid;
  std::int64_t begin = 0, end = 0;  // 0-based, half open, begin < end; end may pass the sequence's
                                    // end on a circular record (GFF3)
  char strand = '.';                // '+', '-' or '.'
  std::string name;       // BED column 4; GFF3 ID, else Name, else locus_tag; else "seqid:FROM-TO"
  std::string type;       // GFF3 column 3; empty for BED
  std::int64_t line = 0;  // in the file, for messages
};

// Format by content of the first data line (GFF3 if "##gff-version" comes first or there are 9
// columns with numbers in 4 and 5), so names and stdin do not matter. `type`: keep only GFF3
// features of this type; empty keeps all. allow_no_eof: ByteSource. Throws Error(kInput) with file
// and line, Error(kIo).
std::vector<Feature> read_features(const std::string& path, const std::string& type = "",
                                   bool allow_no_eof = false);

// BED only: 3 to 12 tab-separated columns (blanks where there are no tabs); track, browser and #
// lines are skipped, and, with one warning, intervals of length 0.
std::vector<Feature> read_bed(const std::string& path, bool allow_no_eof = false);

}  // namespace m5
