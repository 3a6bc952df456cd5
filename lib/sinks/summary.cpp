#include "sinks/summary.hpp"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/memory.hpp"
#include "base/numbers.hpp"
#include "base/text.hpp"
#include "m5/error.hpp"
#include "m5/version.hpp"
#include "sinks/formats.hpp"

namespace m5 {

namespace {

using Json = nlohmann::ordered_json;

Json counts(const RecordSummary& r) {
  Json json;
  json["n_bases"] = r.bases;
  json["n_scored"] = r.scored;
  json["n_N"] = r.n;
  json["n_other"] = r.other;
  const auto scored = static_cast<double>(r.scored);
  const double nll = r.nll / scored;
  const bool any = r.scored > 0;
  json["mean_nll_nats"] = any ? Json(nll) : Json();
  json["mean_bits"] = any ? Json(metric_from_nll(Metric::kBits, nll)) : Json();
  json["perplexity"] = any ? Json(metric_from_nll(Metric::kPerplexity, nll)) : Json();
  json["accuracy"] = any ? Json(static_cast<double>(r.correct) / scored) : Json();
  return json;
}

struct Total {
  RecordSummary counts;
  std::size_t records = 0;

  void add(const RecordSummary& record) {
    counts += record;
    ++records;
  }
};

Json run_of(const ScoreSummary& summary, const Total& total) {
  Json json;
  json["m5_version"] = version();
  json["model"] = summary.model_name;
  json["model_sha256"] = summary.model_sha256;
  json["passes"] = summary.passes;
  json["likelihood"] = summary.passes > 0;  // false: --unmasked
  json["memory"] = summary.memory;
  json["strand"] = summary.strand;
  json["context"] = summary.context;
  json["precision"] = summary.precision;
  json["n_records"] = total.records;
  json.update(counts(total.counts));
  return json;
}

std::string cell(const Json& value) {
  if (value.is_null()) return "";
  return value.is_string() ? cell_text(value.get<std::string>()) : value.dump();
}

// Whether readers of tables (Python's float) take a name for a number: 007, 1e5, nan, 1_000.
bool reads_as_number(std::string text) {
  std::erase(text, '_');
  const std::size_t sign = text.starts_with('+') ? 1 : 0;
  double value;
  const char* end = text.data() + text.size();
  return !text.empty() && parse_number(text.data() + sign, end, value).ptr == end;
}

// A name in quotes where it would be read as a number, a comment or a quoted name.
std::string sample_cell(const std::string& sample) {
  std::string name = cell_text(sample);
  if (!name.empty() && !name.starts_with('#') && name.front() != ' ' && name.back() != ' ' &&
      name.find('"') == std::string::npos && name.front() != '\'' && !reads_as_number(name)) {
    return name;
  }
  std::string quoted = "\"";
  for (const char c : name) quoted += c == '"' ? "\"\"" : std::string(1, c);
  return quoted + "\"";
}

// YAML that MultiQC reads: the columns of its general statistics.
constexpr const char* kMultiqcHeader =
    R"(# id: 'm5'
# plot_type: 'generalstats'
# pconfig:
#   - mean_bits:
#       title: 'Bits/nt'
#       description: 'm5: mean -log2 p of a hidden base; 2 is no idea'
#       min: 0
#       max: 2
#       scale: 'RdYlBu-rev'
#       format: '{:,.4f}'
#   - perplexity:
#       title: 'Perplexity'
#       description: 'm5: exp of the mean -log p of a hidden base; 4 is no idea'
#       min: 1
#       max: 4
#       scale: 'RdYlBu-rev'
#       format: '{:,.4f}'
#       hidden: true
#   - accuracy:
#       title: 'Guessed right'
#       description: 'm5: share of the hidden bases that were the most probable one'
#       min: 0
#       max: 1
#       scale: 'RdYlBu'
#       format: '{:,.4f}'
#   - n_scored:
#       title: 'Scored nt'
#       description: 'm5: A, C, G and T'
#       min: 0
#       scale: 'Greys'
#       format: '{:,.0f}'
#   - n_records:
#       title: 'Records'
#       description: 'Records (contigs) of the file'
#       min: 0
#       scale: 'Greys'
#       format: '{:,.0f}'
)";

}  // namespace

std::string cell_text(const std::string& text) {
  std::string line = printable(text);
  std::replace(line.begin(), line.end(), '\t', ' ');
  return line;
}

void RecordSummary::add(const Token* tokens, const SequenceScores& scores) {
  for (std::size_t i = 0; i < scores.log_p.size(); ++i) {
    if (std::isnan(scores.log_p[i])) continue;
    ++scored;
    nll -= static_cast<double>(scores.log_p[i]);
    const float* four = scores.log_probs.data() + i * kBases;
    bool best = true;  // ties go to no one
    for (int b = 0; b < kBases; ++b) best = best && (b == tokens[i] || four[b] < four[tokens[i]]);
    if (best) ++correct;
  }
  const double mean = nll / static_cast<double>(std::max<std::int64_t>(scored, 1));
  if (!std::isfinite(metric_from_nll(Metric::kPerplexity, mean))) {
    throw Error(ErrorKind::kNumeric,
                "record '" + name + "': its perplexity has no finite number; leave out --summary");
  }
}

RecordSummary& RecordSummary::operator+=(const RecordSummary& r) {
  bases += r.bases;
  scored += r.scored;
  n += r.n;
  other += r.other;
  nll += r.nll;
  correct += r.correct;
  return *this;
}

std::uint64_t summary_memory(std::size_t name) {
  return sizeof(RecordSummary) + (name < sizeof(std::string) / 2 ? 0 : heap_memory(name));
}

void check_summary_path(const std::string& path) {
  if (!path.ends_with(".json") && !path.ends_with(".tsv")) {
    throw Error(ErrorKind::kUsage, "--summary: " + path + ": the name must end in .json or .tsv");
  }
}

void write_summary(const ScoreSummary& summary, OutputFile& file) {
  const std::string& path = file.path();
  check_summary_path(path);
  std::string text;
  if (path.ends_with(".json")) {
    // The records one by one: all of them as JSON would take much more than they do.
    const auto dump = [](const Json& json) {
      return json.dump(2, ' ', false, Json::error_handler_t::replace);
    };
    Total total;
    for (const RecordSummary& r : summary.records) total.add(r);
    text = dump(run_of(summary, total));
    text.resize(text.size() - 2);  // the line end and the brace
    file.write(text + ",\n  \"records\": [");
    const char* separator = "\n";
    for (const RecordSummary& r : summary.records) {
      Json json;
      json["file"] = summary.files[r.file].path;
      json["name"] = r.name;
      json["circular"] = r.circular;
      json.update(counts(r));
      text = separator;
      for (const char c : "    " + dump(json)) {
        text += c;
        if (c == '\n') text += "    ";
      }
      file.write(text);
      separator = ",\n";
    }
    text = summary.records.empty() ? "]\n}\n" : "\n  ]\n}\n";
  } else {
    std::vector<Total> totals(summary.files.size());
    for (const RecordSummary& r : summary.records) totals[r.file].add(r);
    std::string rows;
    for (std::size_t i = 0; i < summary.files.size(); ++i) {
      const SummaryFile& row = summary.files[i];
      std::string names = "Sample\tfile";
      rows += sample_cell(row.sample) + "\t" + cell_text(row.path);
      const Json run = run_of(summary, totals[i]);
      for (const auto& [key, value] : run.items()) {
        names += "\t" + key;
        rows += "\t" + cell(value);
      }
      rows += "\n";
      if (text.empty()) text = kMultiqcHeader + names + "\n";
    }
    text += rows;
  }
  file.write(text);
  file.flush();
}

}  // namespace m5
