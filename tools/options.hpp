// Options that several commands have, so that every command spells and explains them the same.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "base/text.hpp"
#include "m5/model.hpp"
#include "m5/session.hpp"

namespace m5 {

struct CommonOptions {
  std::string model;         // empty: the bundled model
  std::string output = "-";  // "-": stdout
  int threads = 0;           // all worker threads; 0: the CPUs this process may use
  std::string device = "cpu";
  bool host_alone = false;         // no GPU does it: "auto" is cpu, "cuda" an error
  std::string precision = "fp32";  // "bf16"; "auto" until check_common has chosen
  std::string residual = "fp32";
  int block_rows = 0;                     // 0: chosen for the cache of the machine
  bool circular = false, linear = false;  // neither: what the header of each record says
  std::string circular_list;
  std::set<std::string> circular_names;  // records that this, or another file, calls circular
  std::string rename;  // a pattern of what records are called in the output; empty: their name
  bool unique_names = false;       // of the output: a name that comes again is an error
  std::string context = "record";  // or "file"
  std::string memory;              // "on", "off", or empty: as the model has it
  bool skip_empty = false, allow_no_eof = false;
  bool no_header = false;
  bool dry_run = false;
  std::int64_t max_memory = 0;  // bytes; 0: what is available
  int verbosity = 3;            // 0 silent, 1 errors, 2 + warnings, 3 + progress and notes
};

// One call per group; each adds the options named in the comment.
void add_model(CLI::App& app, CommonOptions& options);   // -m/--model
void add_output(CLI::App& app, CommonOptions& options);  // -o/--output
// --write-index[=FMT]; without it `index` stays empty.
void add_write_index(CLI::App& app, std::string& index);
void add_threads(CLI::App& app, CommonOptions& options);     // -@/--threads
void add_device(CLI::App& app, CommonOptions& options);      // --device, --precision
void add_block_rows(CLI::App& app, CommonOptions& options);  // --block-rows
void add_residual(CLI::App& app, CommonOptions& options);    // --residual
void add_topology(CLI::App& app, CommonOptions& options);    // --circular, --linear,
                                                             // --circular-list
void add_rename(CLI::App& app, CommonOptions& options);      // --rename
void add_context(CLI::App& app, CommonOptions& options);     // --context
void add_memory(CLI::App& app, CommonOptions& options);      // --memory
void add_input(CLI::App& app, CommonOptions& options);       // --skip-empty, --allow-no-eof
void add_header(CLI::App& app, CommonOptions& options);      // --no-header, --no-PG
void add_dry_run(CLI::App& app, CommonOptions& options);     // --dry-run, --max-memory
void add_verbosity(CLI::App& app, CommonOptions& options);   // --verbosity
// The groups that end the help of a command which runs a model over sequences: --context to
// --verbosity.
void add_run(CLI::App& app, CommonOptions& options);

// An option that is a size ("196608", "4k", "2M": base/system.hpp parse_size); `name` as in CLI11
// ("--window"). A value below `least` is a usage error.
CLI::Option* add_size(CLI::App& app, const std::string& name, std::int64_t& value,
                      const std::string& help, std::int64_t least = 0);
// The same for a comma-separated list.
CLI::Option* add_sizes(CLI::App& app, const std::string& name, std::vector<std::int64_t>& values,
                       const std::string& help, std::int64_t least = 0);
// A check of CLI11: it would wrap a negative or too large number around.
std::string whole_number(const std::string& text);
// An option that takes exactly one argument each time and may be given several times; it never
// swallows the files that follow it.
CLI::Option* add_repeatable(CLI::App& app, const std::string& name,
                            std::vector<std::string>& values, const std::string& help);

// Sets up `app` as the parser of `m5 WORD`.
void prepare_app(CLI::App& app, const std::string& word, const std::string& description);
// Parses; prints the help on stdout and returns false when that was asked for, and with no argument
// at all prints it on stderr and throws. An option that is given again takes the last value. Throws
// Error(kUsage) with one line, also for an empty value. Call check_common afterwards.
bool parse_command_line(CLI::App& app, int argc, char** argv);
// Contradictions between common options: Error(kUsage). Sets up the log for `m5 WORD` and puts what
// was chosen in the place of --precision auto.
void check_common(CommonOptions& options, const std::string& word);

// The session options of the common options. A device that is missing is an error of what makes
// the backend.
SessionOptions session_options(const CommonOptions& options);
// The model of -m, or the bundled one.
Model open_model(const CommonOptions& options);
// Whether the genome memory is asked. Throws Error(kUsage) for --memory on and a model without.
bool memory_is_on(const CommonOptions& options, const Model& model);

// The command line for the provenance lines, shell-quoted. Options that must not change the bytes
// of the output are left out with their values: -@/--threads, and the paths of outputs
// (-o/--output, --summary, --chrom-sizes), so that any number of threads and any place to write to
// give the same file.
std::string provenance_command(int argc, char** argv);
// The provenance lines of the output of `m5 WORD`: version, command line, model, settings.
// settings: the command's own, such as "passes=7"; the common ones follow. None with --no-header.
std::vector<std::string> header_lines(const CommonOptions& options, const std::string& word,
                                      int argc, char** argv, const Model& model,
                                      const std::string& settings);

}  // namespace m5
