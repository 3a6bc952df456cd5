#include "io/topology.hpp"

#include <algorithm>
#include <string_view>
#include <vector>

#include "io/byte_source.hpp"
#include "io/fields.hpp"
#include "m5/error.hpp"

namespace m5 {

std::set<std::string> read_circular_list(const std::string& path, bool allow_no_eof) {
  enum class Kind { kUnknown, kList, kFlye, kHeaders } kind = Kind::kUnknown;
  std::set<std::string> names;
  LineReader reader(path, allow_no_eof);
  const auto fail = [&](const std::string& message) {
    throw Error(ErrorKind::kInput,
                path + ": line " + std::to_string(reader.line_number()) + ": " + message);
  };
  std::size_t circular_column = 0;
  for (std::string line; reader.next(line);) {
    const std::size_t end = line.find_last_not_of(" \t");
    if (end == std::string::npos) continue;
    line.resize(end + 1);
    if (kind == Kind::kUnknown && line.starts_with("#seq_name")) {
      const std::vector<std::string_view> columns = split(line, "\t");
      const auto column = std::find(columns.begin(), columns.end(), "circ.");
      if (column == columns.end()) fail("a table of Flye has a column 'circ.'");
      circular_column = static_cast<std::size_t>(column - columns.begin());
      kind = Kind::kFlye;
      continue;
    }
    if (line[0] == '#') continue;
    if (kind == Kind::kUnknown) kind = line[0] == '>' ? Kind::kHeaders : Kind::kList;
    if (kind == Kind::kHeaders) {
      if (line[0] != '>' || !header_says_circular(line)) continue;
      const std::size_t begin = line.find_first_not_of(" \t", 1);
      names.insert(line.substr(begin, line.find_first_of(" \t", begin) - begin));
      continue;
    }
    const std::vector<std::string_view> cells = split(line, kind == Kind::kFlye ? "\t" : " \t");
    if (kind == Kind::kFlye) {
      if (cells.size() <= circular_column) fail("fewer columns than the table has");
      const std::string_view circular = cells[circular_column];
      if (circular == "Y" || circular == "+") {
        names.emplace(cells[0]);
      } else if (circular != "N" && circular != "-") {
        fail("circ. is '" + std::string(circular.substr(0, 80)) + "', not Y or N");
      }
    } else if (cells.size() > 1) {
      fail("a list has one name a line, and this line more than one word");
    } else {
      names.emplace(cells[0]);
    }
  }
  return names;
}

}  // namespace m5
