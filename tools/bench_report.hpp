// What the subcommands of `m5 bench` print: a table for people, or one JSON object.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/output.hpp"
#include "kernels/devices.hpp"
#include "m5/model.hpp"
#include "tools/options.hpp"
#include "tools/paths.hpp"

namespace m5 {

int bench_speed(int argc, char** argv);
int bench_ops(int argc, char** argv);
int bench_attention(int argc, char** argv);
int bench_loss(int argc, char** argv);

struct BenchColumn {
  std::string key;   // of the row's object, and the heading
  int decimals = 0;  // of numbers that are no integers
};

struct BenchTable {
  std::string key;  // of the array in the JSON object
  std::vector<BenchColumn> columns;
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
};

// meta and rows keep their order. Table: "# key: value" lines, then aligned columns. JSON: one
// object, meta first, then "rows", then the further tables.
struct BenchReport {
  nlohmann::ordered_json meta = nlohmann::ordered_json::object();
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  std::vector<BenchTable> more;

  std::string table(const std::vector<BenchColumn>& columns) const;
  std::string json() const;
  // beside: complete, and given its name together with the report. Throws Error(kIo).
  void write(const std::string& path, const std::vector<BenchColumn>& columns, bool as_json,
             OutputFile* beside = nullptr) const;
};

// The options of every subcommand that has a model, and what each of them needs.
struct BenchOptions {
  CommonOptions common;
  std::string preset;  // empty: a model file
  bool json = false;
};
void add_bench_options(CLI::App& app, BenchOptions& options);
void add_bench_output(CLI::App& app, BenchOptions& options);  // those about what is printed
// Every option has a default: no argument at all is a valid command line. False after --help.
bool parse_bench(CLI::App& app, int argc, char** argv, BenchOptions& options);
// Looks at what the command reads and writes, before it works: check_paths of these, -o and the
// model; that `sequences` and more can be opened, and -o written.
void check_bench_paths(const BenchOptions& options, const std::vector<std::string>& sequences = {},
                       const std::vector<NamedPath>& more_inputs = {},
                       const std::vector<NamedPath>& more_outputs = {});
// --preset with fresh parameters, or the model of -m, or the bundled one; without one, preset nano.
Model bench_model(const BenchOptions& options);
// m5 version, command; model (name, file, sha256); device and, of a CPU, the instruction set
// chosen.
void describe_run(BenchReport& report, const std::string& command);
void describe_run(BenchReport& report, const std::string& command, const Model& model);
void describe_device(BenchReport& report, kernels::Device& device);

// "1k,4k,whole": sizes as in --lengths, `whole` (where allowed) as 0.
std::vector<std::int64_t> parse_lengths(const std::string& text, bool allow_whole);

// Sets the high-water mark of this process's memory back to what it holds now. False where the
// system does not allow it: peak_rss_bytes() then tells the peak since the start.
bool reset_peak_memory();

// Sequence of `length` tokens: uniform A C G T, a function of the seed.
std::vector<Token> random_genome(std::int64_t length, std::uint64_t seed);

}  // namespace m5
