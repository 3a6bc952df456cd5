// Which records are circular.
#pragma once

#include <set>
#include <string>

#include "io/sequence_reader.hpp"

namespace m5 {

struct Topology {
  enum class Rule { kFromFile, kCircular, kLinear };
  Rule rule = Rule::kFromFile;       // what the file says, or all, or none
  std::set<std::string> circular{};  // names of records that are, too, with kFromFile

  bool is_circular(const SequenceRecord& record) const {
    if (rule != Rule::kFromFile) return rule == Rule::kCircular;
    return record.circular || circular.count(record.name) > 0;
  }
};

// Names of circular records, from one of: a list with a name a line (# begins a comment); the table
// of contigs of Flye (assembly_info.txt, whose column "circ." is Y); FASTA, or only its headers,
// such as those of Unicycler with circular=true. Throws Error(kInput) naming file and line, and
// Error(kIo).
std::set<std::string> read_circular_list(const std::string& path, bool allow_no_eof = false);

}  // namespace m5
