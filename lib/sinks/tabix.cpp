#include "sinks/tabix.hpp"

#include <htslib/hts.h>
#include <htslib/hts_log.h>
#include <htslib/tbx.h>

#include "m5/error.hpp"

namespace m5 {
namespace {

constexpr std::int64_t kLongestTbi = std::int64_t{1} << 29;  // nt: five levels of bins of 16 kb
constexpr int kCsiShift = 14;                                // the same bins

}  // namespace

std::string index_path(const std::string& path, const std::string& format) {
  if (is_stream(path) || !has_bgzf_suffix(path)) {
    throw Error(ErrorKind::kUsage,
                "--write-index is for a file of BGZF: give -o a name that ends in .gz, .bgz or "
                ".bgzf");
  }
  return path + "." + format;
}

TabixIndex::TabixIndex(const std::string& path, const std::string& format)
    : csi_(format == "csi"), file_(index_path(path, format)) {}

void TabixIndex::check_length(const std::string& name, std::int64_t length) const {
  if (csi_ || length <= kLongestTbi) return;
  throw Error(ErrorKind::kInput, "record '" + name + "': has " + std::to_string(length) +
                                     " nt, and an index of the format tbi holds 536,870,912 at "
                                     "most: --write-index=csi");
}

OutputFile* TabixIndex::write(OutputFile& table, const TabixColumns& columns) {
  table.finish();
  const tbx_conf_t layout = {TBX_UCSC, columns.sequence, columns.begin, columns.end,
                             '#',      columns.skip};
  const htsLogLevel level = hts_get_log_level();
  hts_set_log_level(HTS_LOG_OFF);  // the error is told below
  const int failed = tbx_index_build3(table.hidden_path().c_str(), file_.hidden_path().c_str(),
                                      csi_ ? kCsiShift : 0, 0, &layout);
  hts_set_log_level(level);
  if (failed != 0) {
    throw Error(ErrorKind::kIo,
                file_.path() + ": the index could not be written: is the disk full?");
  }
  return &file_;
}

}  // namespace m5
