// Annotated features: BED, GFF3 and GenBank files, plain or gzip.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "io/regions.hpp"

namespace m5 {

struct Feature {
  std::string seqid;
  std::int64_t begin = 0, end = 0;  // 0-based, half open, begin < end; end may pass the sequence's
                                    // end on a circular record (GFF3). Of several parts: their span
  std::vector<Interval> parts;      // of a feature in several: ascending, with bases between them;
                                    // empty: [begin, end) is all of it
  char strand = '.';                // '+', '-' or '.', also where the parts do not agree
  std::string name;                 // BED column 4; FeatureOptions; else "seqid:FROM-TO"
  std::string type;                 // GFF3 column 3, or the key of GenBank; empty for BED
  std::int64_t line = 0;            // its first, in the file, for messages
};

struct FeatureOptions {
  std::string type{};            // keep only features of this type, but of BED; empty: all
  std::string name_attribute{};  // of GFF3, or a qualifier of GenBank: names a feature that has it;
                                 // else ID, then locus_tag, then Name (GenBank: gene)
  bool allow_no_eof = false;     // ByteSource
};

struct FeatureFile {
  std::vector<Feature> features;  // in the order of their first lines
  // Sequences that the file calls circular (Is_circular=true, LOCUS).
  std::set<std::string> circular;
};

// Format by content of the first data line (GenBank if it begins with LOCUS; GFF3 if
// "##gff-version" comes first or there are 9 columns with numbers in 4 and 5), so names and stdin
// do not matter. GFF3 rows of one sequence, type and ID are one feature, as is what GenBank joins.
// Throws Error(kInput) with file and line, also if there is no feature or none has the
// name_attribute; Error(kIo).
FeatureFile read_features(const std::string& path, const FeatureOptions& options = {});

// The stretches of a feature of file `path` on its record of `length` nt: ascending, with bases
// between them. On a circular record the last may pass the end of the record, by less than once
// around, and a feature that goes on at the start of the record is followed there, so that its
// stretches may begin past the end. Throws Error(kInput) naming file and line if it does not fit.
std::vector<Interval> place_feature(const Feature& feature, const std::string& path,
                                    std::int64_t length, bool circular);

// BED only: 3 to 12 tab-separated columns (blanks where there are no tabs); track, browser and #
// lines are skipped, and, with one warning, intervals of length 0.
std::vector<Feature> read_bed(const std::string& path, bool allow_no_eof = false);

}  // namespace m5
