#include "tools/bench_report.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>

#include "base/log.hpp"
#include "base/output.hpp"
#include "base/random.hpp"
#include "base/system.hpp"
#include "kernels/cpu/simd.hpp"
#include "m5/error.hpp"
#include "m5/version.hpp"

namespace m5 {
namespace {

std::string cell(const nlohmann::ordered_json& value, int decimals) {
  if (value.is_null()) return ".";
  if (value.is_string()) return value.get<std::string>();
  if (!value.is_number_float()) return value.dump();
  char text[64];
  const double number = value.get<double>();
  if (number != 0 && std::abs(number) < 1e-2) {
    std::snprintf(text, sizeof text, "%.3g", number);
  } else {
    std::snprintf(text, sizeof text, "%.*f", decimals, number);
  }
  return text;
}

// A heading and the rows, in columns.
std::string aligned(const nlohmann::ordered_json& rows, const std::vector<BenchColumn>& columns) {
  std::string text;
  std::vector<std::vector<std::string>> lines(1);
  for (const BenchColumn& c : columns) lines[0].push_back(c.key);
  for (const auto& row : rows) {
    std::vector<std::string> line;
    line.reserve(columns.size());
    for (const BenchColumn& c : columns) {
      line.push_back(row.contains(c.key) ? cell(row[c.key], c.decimals) : ".");
    }
    lines.push_back(std::move(line));
  }
  std::vector<std::size_t> width(columns.size());
  for (const auto& line : lines) {
    for (std::size_t i = 0; i < line.size(); ++i) width[i] = std::max(width[i], line[i].size());
  }
  for (const auto& line : lines) {
    for (std::size_t i = 0; i < line.size(); ++i) {
      if (i > 0) text += "  ";
      text += std::string(width[i] - line[i].size(), ' ') + line[i];
    }
    text += "\n";
  }
  return text;
}

}  // namespace

std::string BenchReport::table(const std::vector<BenchColumn>& columns) const {
  std::string text;
  for (const auto& [key, value] : meta.items()) {
    text +=
        "# " + key + ": " + (value.is_string() ? value.get<std::string>() : value.dump()) + "\n";
  }
  text += aligned(rows, columns);
  for (const BenchTable& t : more) text += "\n# " + t.key + "\n" + aligned(t.rows, t.columns);
  return text;
}

std::string BenchReport::json() const {
  nlohmann::ordered_json all = meta;
  all["rows"] = rows;
  for (const BenchTable& t : more) all[t.key] = t.rows;
  return all.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

void BenchReport::write(const std::string& path, const std::vector<BenchColumn>& columns,
                        bool as_json, OutputFile* beside) const {
  OutputFile out(path);
  out.write(as_json ? json() : table(columns));
  std::vector<OutputFile*> files = {&out};
  if (beside != nullptr) files.push_back(beside);
  commit_all(files);
}

void add_bench_options(CLI::App& app, BenchOptions& options) {
  add_model(app, options.common);
  app.add_option("--preset", options.preset,
                 "a preset with fresh parameters instead of a model file: nano, small, base ...")
      ->option_text("NAME");
  add_bench_output(app, options);
}

void add_bench_output(CLI::App& app, BenchOptions& options) {
  add_output(app, options.common);
  app.add_flag("--json", options.json, "one JSON object instead of a table");
  add_verbosity(app, options.common);
}

bool parse_bench(CLI::App& app, int argc, char** argv, BenchOptions& options) {
  if (argc > 1 && !parse_command_line(app, argc, argv)) return false;
  check_common(options.common, "bench");
  if (!options.preset.empty() && !options.common.model.empty()) {
    throw Error(ErrorKind::kUsage, "--preset and --model contradict each other");
  }
  return true;
}

namespace {

// Empty: none, but fresh parameters.
std::string model_path(const BenchOptions& options) {
  if (!options.preset.empty()) return "";
  if (!options.common.model.empty()) return options.common.model;
  try {
    return default_model_path();
  } catch (const Error&) {
    return "";
  }
}

}  // namespace

void check_bench_paths(const BenchOptions& options, const std::vector<std::string>& sequences,
                       const std::vector<NamedPath>& more_inputs,
                       const std::vector<NamedPath>& more_outputs) {
  std::vector<NamedPath> outputs = {{"--output", options.common.output}};
  outputs.insert(outputs.end(), more_outputs.begin(), more_outputs.end());
  std::vector<NamedPath> inputs = {{"--model", model_path(options)},
                                   {"--circular-list", options.common.circular_list}};
  for (const std::string& file : sequences) inputs.push_back({"sequences", file});
  inputs.insert(inputs.end(), more_inputs.begin(), more_inputs.end());
  check_paths(outputs, inputs);
  require_readable(sequences);
  for (const NamedPath& output : outputs) {
    if (!output.path.empty()) require_writable(output.path);
  }
}

Model bench_model(const BenchOptions& options) {
  if (!options.preset.empty()) return initial_model(ModelConfig::preset(options.preset), 1);
  const std::string path = model_path(options);
  if (!path.empty()) return load_model(path);
  log_warning("no bundled model: fresh parameters of preset nano are used");
  return initial_model(ModelConfig::preset("nano"), 1);
}

void describe_run(BenchReport& report, const std::string& command) {
  report.meta["m5_version"] = version();
  report.meta["command"] = command;
}

void describe_run(BenchReport& report, const std::string& command, const Model& model) {
  describe_run(report, command);
  report.meta["model"] = model.config.name;
  report.meta["model_file"] =
      model.path.empty() ? std::string("none: fresh parameters") : model.path;
  report.meta["model_sha256"] = model.sha256;
}

void describe_device(BenchReport& report, kernels::Device& device) {
  report.meta["device"] = device.name();
  report.meta["isa"] = device.name().starts_with("cpu") ? kernels::simd::chosen_isa() : "none";
}

std::vector<std::int64_t> parse_lengths(const std::string& text, bool allow_whole) {
  std::vector<std::int64_t> lengths;
  for (std::size_t at = 0; at <= text.size();) {
    const std::size_t comma = std::min(text.find(',', at), text.size());
    const std::string word = text.substr(at, comma - at);
    at = comma + 1;
    if (allow_whole && word == "whole") {
      lengths.push_back(0);
      continue;
    }
    lengths.push_back(parse_size(word, "--lengths"));
    if (lengths.back() < 1) throw Error(ErrorKind::kUsage, "--lengths: must be at least 1 nt");
  }
  return lengths;
}

bool reset_peak_memory() {
  std::ofstream file("/proc/self/clear_refs");
  file << "5" << std::flush;
  return file.good();
}

std::vector<Token> random_genome(std::int64_t length, std::uint64_t seed) {
  std::vector<Token> tokens(static_cast<std::size_t>(length));
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    tokens[i] = static_cast<Token>((random_bits(seed, i / 32) >> (2 * (i % 32))) & 3);
  }
  return tokens;
}

}  // namespace m5
