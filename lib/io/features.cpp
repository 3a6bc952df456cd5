#include "io/features.hpp"

#include <charconv>
#include <optional>
#include <string_view>

#include "base/log.hpp"
#include "base/memory.hpp"
#include "io/byte_source.hpp"
#include "m5/error.hpp"

namespace m5 {
namespace {

[[noreturn]] void fail(const LineReader& reader, const std::string& message) {
  throw Error(ErrorKind::kInput,
              reader.path() + ": line " + std::to_string(reader.line_number()) + ": " + message);
}

std::optional<std::int64_t> whole_number(std::string_view text) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || text.empty()) return std::nullopt;
  return value;
}

std::vector<std::string_view> split(std::string_view line, char separator) {
  std::vector<std::string_view> fields;
  while (true) {
    const std::size_t end = line.find(separator);
    fields.push_back(line.substr(0, end));
    if (end == std::string_view::npos) return fields;
    line.remove_prefix(end + 1);
  }
}

std::vector<std::string_view> split_blanks(std::string_view line) {
  std::vector<std::string_view> fields;
  while (true) {
    const std::size_t begin = line.find_first_not_of(" \t");
    if (begin == std::string_view::npos) return fields;
    line.remove_prefix(begin);
    fields.push_back(line.substr(0, line.find_first_of(" \t")));
    line.remove_prefix(fields.back().size());
  }
}

std::string quoted(std::string_view text) { return "'" + std::string(text.substr(0, 80)) + "'"; }

bool starts_with_word(std::string_view line, std::string_view word) {
  return line.substr(0, word.size()) == word &&
         (line.size() == word.size() || line[word.size()] == ' ' || line[word.size()] == '\t');
}

// "%2C" -> ","; a '%' without two hex digits stays.
std::string url_decoded(std::string_view text) {
  const auto hex = [](char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return -1;
  };
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%' && i + 2 < text.size() && hex(text[i + 1]) >= 0 && hex(text[i + 2]) >= 0) {
      out += static_cast<char>(hex(text[i + 1]) * 16 + hex(text[i + 2]));
      i += 2;
    } else {
      out += text[i];
    }
  }
  // Names end up in tables: an encoded tab or line end must not break them.
  for (char& c : out) {
    if (static_cast<unsigned char>(c) < 32 || c == 127) c = ' ';
  }
  return out;
}

std::string default_name(const Feature& f) {
  return f.seqid + ":" + std::to_string(f.begin + 1) + "-" + std::to_string(f.end);
}

Feature bed_feature(std::string_view line, const LineReader& reader) {
  const std::vector<std::string_view> columns =
      line.find('\t') != std::string_view::npos ? split(line, '\t') : split_blanks(line);
  if (columns.size() < 3) fail(reader, "a BED line has at least 3 columns: " + quoted(line));
  Feature feature;
  feature.seqid = columns[0];
  const auto begin = whole_number(columns[1]), end = whole_number(columns[2]);
  if (feature.seqid.empty()) fail(reader, "no sequence name in column 1");
  if (!begin || *begin < 0) fail(reader, "start " + quoted(columns[1]) + " is no number >= 0");
  if (!end) fail(reader, "end " + quoted(columns[2]) + " is no number");
  if (*begin > *end)
    fail(reader, "start " + std::to_string(*begin) + " is not before end " + std::to_string(*end));
  feature.begin = *begin;
  feature.end = *end;
  if (columns.size() > 5) {
    if (columns[5] != "+" && columns[5] != "-" && columns[5] != ".") {
      fail(reader, "strand " + quoted(columns[5]) + " is none of + - .");
    }
    feature.strand = columns[5][0];
  }
  feature.name = columns.size() > 3 && !columns[3].empty() && columns[3] != "."
                     ? std::string(columns[3])
                     : default_name(feature);
  feature.line = reader.line_number();
  return feature;
}

std::string gff_name(std::string_view attributes, const Feature& feature) {
  std::string id, name, locus;
  for (std::string_view pair : split(attributes, ';')) {
    while (!pair.empty() && pair.front() == ' ') pair.remove_prefix(1);
    const std::size_t equals = pair.find('=');
    if (equals == std::string_view::npos) continue;
    const std::string_view key = pair.substr(0, equals), value = pair.substr(equals + 1);
    if (key == "ID") id = url_decoded(value);
    if (key == "Name") name = url_decoded(value);
    if (key == "locus_tag") locus = url_decoded(value);
  }
  if (!id.empty()) return id;
  if (!name.empty()) return name;
  return !locus.empty() ? locus : default_name(feature);
}

Feature gff_feature(std::string_view line, const LineReader& reader) {
  const std::vector<std::string_view> columns = split(line, '\t');
  if (columns.size() != 9) {
    fail(reader, "a GFF3 line has 9 tab-separated columns, this one " +
                     std::to_string(columns.size()) + ": " + quoted(line));
  }
  Feature feature;
  feature.seqid = url_decoded(columns[0]);
  feature.type = columns[2];
  if (feature.seqid.empty()) fail(reader, "no sequence name in column 1");
  const auto first = whole_number(columns[3]), last = whole_number(columns[4]);
  if (!first || *first < 1) fail(reader, "start " + quoted(columns[3]) + " is no number >= 1");
  if (!last) fail(reader, "end " + quoted(columns[4]) + " is no number");
  if (*first > *last)
    fail(reader, "start " + std::to_string(*first) + " is after end " + std::to_string(*last));
  feature.begin = *first - 1;
  feature.end = *last;
  const std::string_view strand = columns[6];
  if (strand != "+" && strand != "-" && strand != "." && strand != "?") {
    fail(reader, "strand " + quoted(strand) + " is none of + - . ?");
  }
  feature.strand = strand == "?" ? '.' : strand[0];
  feature.name = gff_name(columns[8], feature);
  feature.line = reader.line_number();
  return feature;
}

bool is_blank_line(std::string_view line) {
  return line.find_first_not_of(" \t") == std::string_view::npos;
}

// Which format a data line belongs to.
bool looks_like_gff(std::string_view line) {
  const std::vector<std::string_view> columns = split(line, '\t');
  return columns.size() == 9 && !(whole_number(columns[1]) && whole_number(columns[2])) &&
         whole_number(columns[3]) && whole_number(columns[4]);
}

constexpr std::size_t kCheckedFeatures = 1024;

enum class Kind { kUnknown, kBed, kGff };

std::vector<Feature> read(const std::string& path, const std::string& type, Kind kind,
                          const std::string& what, bool allow_no_eof) {
  LineReader reader(path, allow_no_eof);
  std::vector<Feature> features;
  std::string line;
  bool any = false, warned = false;
  while (reader.next(line)) {
    if (is_blank_line(line)) continue;
    if (line[0] == '#') {
      if (kind == Kind::kUnknown && starts_with_word(line, "##gff-version")) kind = Kind::kGff;
      if (kind == Kind::kGff && starts_with_word(line, "##FASTA")) break;
      continue;
    }
    if (kind != Kind::kGff &&
        (starts_with_word(line, "track") || starts_with_word(line, "browser"))) {
      continue;
    }
    if (kind == Kind::kUnknown) kind = looks_like_gff(line) ? Kind::kGff : Kind::kBed;
    if (kind == Kind::kGff && line[0] == '>') break;  // a FASTA section without its directive
    Feature feature = kind == Kind::kGff ? gff_feature(line, reader) : bed_feature(line, reader);
    if (feature.begin == feature.end) {  // an insertion point: it has no base
      if (!warned) {
        log_warning(reader.path() + ": line " + std::to_string(feature.line) +
                    ": an interval of length 0 is skipped, as are others like it");
      }
      warned = true;
      continue;
    }
    any = true;
    if (kind == Kind::kGff && !type.empty() && feature.type != type) continue;
    if (features.size() == features.capacity() && features.size() >= kCheckedFeatures) {
      require_more_memory(2 * features.size() * sizeof(Feature), reader.path());
    }
    features.push_back(std::move(feature));
  }
  // The rest of the stream is read too: damage there means the file cannot be trusted.
  while (reader.next(line)) {
  }
  if (any && features.empty()) {
    throw Error(ErrorKind::kInput, reader.path() + ": no feature of type '" + type + "'");
  }
  if (!any) throw Error(ErrorKind::kInput, reader.path() + ": no " + what + " in this file");
  return features;
}

}  // namespace

std::vector<Feature> read_features(const std::string& path, const std::string& type,
                                   bool allow_no_eof) {
  return read(path, type, Kind::kUnknown, "features", allow_no_eof);
}

std::vector<Feature> read_bed(const std::string& path, bool allow_no_eof) {
  return read(path, "", Kind::kBed, "regions", allow_no_eof);
}

}  // namespace m5
