#include "sinks/score_sink.hpp"

#include <string_view>

#include "base/memory.hpp"
#include "base/output.hpp"
#include "m5/error.hpp"
#include "sinks/formats.hpp"

namespace m5 {

namespace {

struct Format {
  const char* name;
  bool all_bases;
  std::unique_ptr<ScoreSink> (*make)(const ScoreSinkOptions& options);
};

constexpr Format kFormats[] = {
    {"bedgraph", false, make_bedgraph_sink},
    {"bigwig", false, make_bigwig_sink},
    {"npz", true, make_score_npz_sink},
    {"tsv", true, make_score_tsv_sink},
};

const Format& find(const std::string& name) {
  for (const Format& format : kFormats) {
    if (name == format.name) return format;
  }
  throw Error(ErrorKind::kUsage,
              "--output-fmt: no format '" + name + "' (bedgraph, bigwig, npz, tsv)");
}

}  // namespace

void check_line_name(const std::string& name, bool bedgraph) {
  if (name.starts_with('#') || (bedgraph && (name == "track" || name == "browser"))) {
    throw Error(ErrorKind::kInput, "name '" + name +
                                       "': a line that begins so is a comment to those who read " +
                                       (bedgraph ? "bedGraph" : "the table") + "; rename it");
  }
}

std::unique_ptr<ScoreSink> make_score_sink(const std::string& format,
                                           const ScoreSinkOptions& options) {
  return find(format).make(options);
}

std::string score_format_of(const std::string& path) {
  std::string_view name = path;
  name = name.substr(name.rfind('/') + 1);
  if (has_bgzf_suffix(path)) name = name.substr(0, name.rfind('.'));
  const std::size_t dot = name.rfind('.');
  const bool none = dot == std::string_view::npos || dot == 0;  // .name is hidden
  const std::string_view suffix = none ? "" : name.substr(dot);
  if (suffix == ".tsv") return "tsv";
  if (suffix == ".npz" && !has_bgzf_suffix(path)) return "npz";
  for (const char* known : {".bw", ".bigwig", ".bigWig"}) {
    if (suffix == known && !has_bgzf_suffix(path)) return "bigwig";
  }
  for (const char* known : {"", ".bedgraph", ".bedGraph", ".bg", ".bdg", ".bed"}) {
    if (suffix == known) return "bedgraph";
  }
  if (is_stream(path)) return "bedgraph";
  throw Error(
      ErrorKind::kUsage,
      "--output " + path + ": '" + std::string(suffix) +
          "' is no format of m5 score: the name must end in .bw or .npz, or in .bedgraph, .bg, "
          ".bdg, .bed or .tsv, also with .gz, .bgz or .bgzf behind it, or give -O");
}

std::uint64_t score_interval_memory(const std::string& format, std::size_t name) {
  constexpr std::uint64_t kStretch = sizeof(std::string) + 3 * sizeof(std::int64_t);
  if (format != "npz") return 0;
  // In a vector that grows by doubling.
  return 3 * kStretch + (name < sizeof(std::string) / 2 ? 0 : heap_memory(name));
}

bool needs_all_bases(const std::string& format, Metric metric) {
  return find(format).all_bases || metric == Metric::kEntropy;
}

}  // namespace m5
