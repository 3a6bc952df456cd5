// The index of tabix (samtools) beside a table that is written as BGZF.
#pragma once

#include <cstdint>
#include <string>

#include "base/output.hpp"

namespace m5 {

// Columns, from 1; coordinates are 0-based and half open. end 0: a row is of one position.
struct TabixColumns {
  int sequence, begin, end;
  int skip;  // lines before the first row
};

// Throws Error(kUsage) where a table of this name can have no index: it must be a regular file of
// BGZF. Where the index goes otherwise: PATH.tbi or PATH.csi.
std::string index_path(const std::string& path, const std::string& format);

class TabixIndex {
 public:
  // format: "tbi" or "csi".
  TabixIndex(const std::string& path, const std::string& format);
  // Throws Error(kInput) for a record longer than the format can hold.
  void check_length(const std::string& name, std::int64_t length) const;
  // Ends the table, whose rows are together by sequence and ascend by begin, and indexes it.
  // Returns the file of the index, to get its name with the table. Throws Error(kIo).
  OutputFile* write(OutputFile& table, const TabixColumns& columns);

 private:
  const bool csi_;
  OutputFile file_;
};

}  // namespace m5
