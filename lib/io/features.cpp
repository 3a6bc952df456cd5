#include "io/features.hpp"

#include <algorithm>
#include <optional>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "base/log.hpp"
#include "base/memory.hpp"
#include "io/byte_source.hpp"
#include "io/fields.hpp"
#include "io/genbank.hpp"
#include "m5/error.hpp"

namespace m5 {
namespace {

[[noreturn]] void fail(const LineReader& reader, const std::string& message) {
  throw Error(ErrorKind::kInput,
              reader.path() + ": line " + std::to_string(reader.line_number()) + ": " + message);
}

std::string quoted(std::string_view text) { return "'" + std::string(text.substr(0, 80)) + "'"; }

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
      line.find('\t') != std::string_view::npos ? split(line, "\t") : split_blanks(line);
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

// Values of the attributes that matter; empty: it has none.
struct Attributes {
  std::string id, name, locus, chosen;
  bool circular = false;
};

Attributes gff_attributes(std::string_view column, const std::string& chosen) {
  Attributes found;
  for (std::string_view pair : split(column, ";")) {
    while (!pair.empty() && pair.front() == ' ') pair.remove_prefix(1);
    const std::size_t equals = pair.find('=');
    if (equals == std::string_view::npos) continue;
    const std::string_view key = pair.substr(0, equals), value = pair.substr(equals + 1);
    if (key == "ID") found.id = url_decoded(value);
    if (key == "Name") found.name = url_decoded(value);
    if (key == "locus_tag") found.locus = url_decoded(value);
    if (key == "Is_circular") found.circular = value == "true";
    if (!chosen.empty() && key == chosen) found.chosen = url_decoded(value);
  }
  return found;
}

std::string name_of(const Attributes& attributes, const Feature& feature) {
  for (const std::string* name :
       {&attributes.chosen, &attributes.id, &attributes.locus, &attributes.name}) {
    if (!name->empty()) return *name;
  }
  return default_name(feature);
}

Feature gff_feature(std::string_view line, const LineReader& reader, const std::string& chosen,
                    Attributes& attributes) {
  const std::vector<std::string_view> columns = split(line, "\t");
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
  attributes = gff_attributes(columns[8], chosen);
  feature.name = name_of(attributes, feature);
  feature.line = reader.line_number();
  return feature;
}

bool is_blank_line(std::string_view line) {
  return line.find_first_not_of(" \t") == std::string_view::npos;
}

// Which format a data line belongs to.
bool looks_like_gff(std::string_view line) {
  const std::vector<std::string_view> columns = split(line, "\t");
  return columns.size() == 9 && !(whole_number(columns[1]) && whole_number(columns[2])) &&
         whole_number(columns[3]) && whole_number(columns[4]);
}

constexpr std::size_t kCheckedFeatures = 1024;

// Parts in any order, which may overlap, become what Feature promises.
void settle_parts(Feature& feature) {
  if (feature.parts.empty()) return;
  feature.parts = merge_intervals(std::move(feature.parts));
  feature.begin = feature.parts.front().begin;
  feature.end = feature.parts.back().end;
  if (feature.parts.size() == 1) feature.parts.clear();
}

// What every format does with its features.
class Collector {
 public:
  Collector(const std::string& path, const FeatureOptions& options)
      : path_(path), options_(options), any_chosen_(options.name_attribute.empty()) {}

  std::set<std::string>& circular() { return file_.circular; }

  // id: of GFF3, empty: none. typed: the format has types.
  void add(Feature feature, const std::string& id, bool chosen, bool typed) {
    if (feature.begin == feature.end) {  // an insertion point: it has no base
      if (!std::exchange(warned_, true)) {
        log_warning(path_ + ": line " + std::to_string(feature.line) +
                    ": an interval of length 0 is skipped, as are others like it");
      }
      return;
    }
    any_ = true;
    if (typed && !options_.type.empty() && feature.type != options_.type) return;
    any_chosen_ = any_chosen_ || chosen;
    if (join(feature, id)) return;
    std::vector<Feature>& features = file_.features;
    if (features.size() == features.capacity() && features.size() >= kCheckedFeatures) {
      // As many again, and what finds them by their ID.
      require_more_memory(2 * features.size() * (sizeof(Feature) + (id.empty() ? 0 : 128)), path_);
    }
    features.push_back(std::move(feature));
  }

  FeatureFile finish(const std::string& what) {
    const auto refuse = [&](const std::string& why) {
      throw Error(ErrorKind::kInput, path_ + ": " + why);
    };
    if (any_ && file_.features.empty()) refuse("no feature of type '" + options_.type + "'");
    if (!any_) refuse("no " + what + " in this file");
    if (!any_chosen_) refuse("no feature has the attribute '" + options_.name_attribute + "'");
    for (Feature& feature : file_.features) settle_parts(feature);
    return std::move(file_);
  }

 private:
  // True if the row of GFF3 is part of a feature that is there: of its sequence, type and ID.
  bool join(const Feature& row, const std::string& id) {
    if (id.empty()) return false;
    const auto [at, added] =
        first_.try_emplace(row.seqid + '\t' + row.type + '\t' + id, file_.features.size());
    if (added) return false;
    Feature& feature = file_.features[at->second];
    if (feature.parts.empty()) feature.parts.push_back({feature.begin, feature.end});
    feature.parts.push_back({row.begin, row.end});
    if (feature.strand != row.strand) feature.strand = '.';
    return true;
  }

  const std::string path_;
  const FeatureOptions& options_;
  FeatureFile file_;
  std::unordered_map<std::string, std::size_t> first_;
  bool any_ = false, any_chosen_, warned_ = false;
};

enum class Kind { kUnknown, kBed, kGff };

FeatureFile read(const std::string& path, const FeatureOptions& options, Kind kind,
                 const std::string& what) {
  LineReader reader(path, options.allow_no_eof);
  Collector collector(path, options);
  std::string line;
  while (reader.next(line)) {
    if (is_blank_line(line)) continue;
    if (kind == Kind::kUnknown && starts_with_word(line, "LOCUS")) {
      const auto add = [&](Feature&& feature, bool chosen) {
        if (feature.name.empty()) feature.name = default_name(feature);
        collector.add(std::move(feature), "", chosen, true);
      };
      read_genbank_features(reader, line, options.name_attribute, add, collector.circular());
      break;
    }
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
    if (kind == Kind::kBed) {
      collector.add(bed_feature(line, reader), "", false, false);
      continue;
    }
    if (line[0] == '>') break;  // a FASTA section without its directive
    Attributes attributes;
    Feature feature = gff_feature(line, reader, options.name_attribute, attributes);
    if (attributes.circular) collector.circular().insert(feature.seqid);
    collector.add(std::move(feature), attributes.id, !attributes.chosen.empty(), true);
  }
  // The rest of the stream is read too: damage there means the file cannot be trusted.
  while (reader.next(line)) {
  }
  return collector.finish(what);
}

}  // namespace

FeatureFile read_features(const std::string& path, const FeatureOptions& options) {
  return read(path, options, Kind::kUnknown, "features");
}

std::vector<Feature> read_bed(const std::string& path, bool allow_no_eof) {
  return read(path, {.allow_no_eof = allow_no_eof}, Kind::kBed, "regions").features;
}

std::vector<Interval> place_feature(const Feature& feature, const std::string& path,
                                    std::int64_t length, bool circular) {
  std::vector<Interval> parts = feature.parts;
  if (parts.empty()) parts.push_back({feature.begin, feature.end});
  bool around = false;  // it touches both ends of the record, or passes its end
  for (const Interval& part : parts) {
    const bool fits =
        part.end <= length || (circular && part.begin < length && part.end - part.begin <= length);
    if (!fits) {
      throw Error(ErrorKind::kInput, path + ": line " + std::to_string(feature.line) +
                                         ": feature '" + feature.name + "' ends at " +
                                         std::to_string(part.end) + ", record '" + feature.seqid +
                                         "' at " + std::to_string(length));
    }
    around = around || part.end > length;
  }
  if (parts.size() == 1) return parts;
  around = around || (circular && parts.front().begin == 0 && parts.back().end == length);
  if (!around) return parts;
  // Once around the record, each base once.
  std::vector<Interval> flat;
  for (const Interval& part : parts) {
    flat.push_back({part.begin, std::min(part.end, length)});
    if (part.end > length) flat.push_back({0, part.end - length});
  }
  flat = merge_intervals(std::move(flat));
  if (flat.size() == 1 || flat.front().begin > 0 || flat.back().end < length) return flat;
  // What is before the widest gap goes on behind the end.
  std::size_t cut = 1;
  const auto gap = [&](std::size_t i) { return flat[i].begin - flat[i - 1].end; };
  for (std::size_t i = 2; i < flat.size(); ++i) {
    if (gap(i) > gap(cut)) cut = i;
  }
  std::vector<Interval> placed(flat.begin() + static_cast<std::ptrdiff_t>(cut), flat.end());
  placed.back().end = length + flat.front().end;
  for (std::size_t i = 1; i < cut; ++i) {
    placed.push_back({length + flat[i].begin, length + flat[i].end});
  }
  return placed;
}

}  // namespace m5
