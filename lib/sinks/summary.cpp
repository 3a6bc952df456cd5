#include "sinks/summary.hpp"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "m5/error.hpp"
#include "m5/version.hpp"

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

RecordSummary total_of(const ScoreSummary& summary) {
  RecordSummary total;
  for (const RecordSummary& r : summary.records) {
    total.bases += r.bases;
    total.scored += r.scored;
    total.n += r.n;
    total.other += r.other;
    total.nll += r.nll;
    total.correct += r.correct;
  }
  return total;
}

Json run_of(const ScoreSummary& summary) {
  Json json;
  json["m5_version"] = version();
  json["model"] = summary.model_name;
  json["model_sha256"] = summary.model_sha256;
  json["passes"] = summary.passes;
  json["likelihood"] = summary.passes > 0;  // false: --unmasked
  json["strand"] = summary.strand;
  json["context"] = summary.context;
  json["precision"] = summary.precision;
  json["n_records"] = summary.records.size();
  json.update(counts(total_of(summary)));
  return json;
}

std::string cell(const Json& value) {
  if (value.is_null()) return "";
  return value.is_string() ? value.get<std::string>() : value.dump();
}

}  // namespace

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

void check_summary_path(const std::string& path) {
  if (!path.ends_with(".json") && !path.ends_with(".tsv")) {
    throw Error(ErrorKind::kUsage, "--summary: " + path + ": the name must end in .json or .tsv");
  }
}

void write_summary(const ScoreSummary& summary, OutputFile& file) {
  const std::string& path = file.path();
  check_summary_path(path);
  Json run = run_of(summary);
  std::string text;
  if (path.ends_with(".json")) {
    Json records = Json::array();
    for (const RecordSummary& r : summary.records) {
      Json json;
      json["file"] = r.file;
      json["name"] = r.name;
      json["circular"] = r.circular;
      json.update(counts(r));
      records.push_back(std::move(json));
    }
    run["records"] = std::move(records);
    text = run.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
  } else {
    std::string names, values;
    for (const auto& [key, value] : run.items()) {
      names += (names.empty() ? "" : "\t") + key;
      values += (values.empty() ? "" : "\t") + cell(value);
    }
    text = names + "\n" + values + "\n";
  }
  file.write(text);
  file.flush();
}

}  // namespace m5
