// GenBank flat files: what the reader of sequences and that of features both need of them. A file
// is records from LOCUS to //; the name of a record is that of VERSION, else of LOCUS.
#pragma once

#include <cstdint>
#include <functional>
#include <set>
#include <string>
#include <string_view>

#include "io/byte_source.hpp"
#include "io/features.hpp"

namespace m5 {

struct GenbankLocus {
  std::string name;          // empty: the line has none
  std::int64_t length = -1;  // bp; -1: not told
  bool circular = false;
  bool protein = false;  // its length is in aa
};

GenbankLocus parse_locus(std::string_view line);

// The first word behind the keyword; empty: none.
std::string_view first_value(std::string_view line);

// Puts a location such as join(complement(12..78),134..>202) into the feature, its parts in the
// order of the text (Feature::parts empty: one), begin == end if it has no base (12^13). Returns
// what is wrong with it, or an empty text. length: of the record, -1: not known. remote: set if it
// reaches into another record.
std::string parse_location(std::string_view text, const std::string& record, std::int64_t length,
                           bool circular, Feature& feature, bool& remote);

// Reads all features of all records, the first LOCUS line being `line`, to the end of the file.
// chosen: the feature has the qualifier `name_attribute`. Features that reach into other records
// are left out with one warning. Throws Error(kInput) naming file and line.
void read_genbank_features(LineReader& reader, std::string line, const std::string& name_attribute,
                           const std::function<void(Feature&& feature, bool chosen)>& add,
                           std::set<std::string>& circular);

}  // namespace m5
