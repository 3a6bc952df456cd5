#include "tools/options.hpp"

#include <algorithm>
#include <cstdio>
#include <iostream>
#include <string_view>

#include "base/log.hpp"
#include "base/memory.hpp"
#include "base/system.hpp"
#include "io/topology.hpp"
#include "kernels/backend.hpp"
#include "kernels/devices.hpp"
#include "m5/error.hpp"
#include "m5/version.hpp"

namespace m5 {

void add_model(CLI::App& app, CommonOptions& options) {
  app.add_option("-m,--model", options.model,
                 "model file (default: $M5_MODEL, else the bundled model)")
      ->option_text("FILE");
}

void add_output(CLI::App& app, CommonOptions& options) {
  app.add_option("-o,--output", options.output,
                 "output file, - for stdout (default); appears whole or not at all")
      ->option_text("FILE");
}

void add_write_index(CLI::App& app, std::string& index) {
  // A flag that takes a value behind '=' only: what follows it is a file of sequences.
  app.add_flag("--write-index{tbi}", index,
               "write the index of tabix beside a BGZF output: FILE.tbi, or with =csi FILE.csi")
      ->check(CLI::IsMember({"tbi", "csi"}));
}

void add_threads(CLI::App& app, CommonOptions& options) {
  app.add_option("-@,--threads", options.threads,
                 "all worker threads, not additional ones; 0 (default): the CPUs of this process")
      ->option_text("INT")
      ->check(CLI::Range(0, 4096));
}

void add_device(CLI::App& app, CommonOptions& options) {
  app.add_option("--device", options.device,
                 "cpu (default), cuda or cuda:N (a GPU), auto or ref (slow, plain loops)")
      ->option_text("NAME")
      ->check(CLI::IsMember({"cpu", "cuda", "auto", "ref"}) |
              CLI::Validator(
                  [](std::string& text) {
                    return kernels::names_cuda(text) ? "" : "'" + text + "' is no device";
                  },
                  "cuda:N"));
  app.add_option(
         "--precision", options.precision,
         "fp32 (default), bf16 (bf16 operands, fp32 sums), or auto: bf16 if the device has it")
      ->option_text("NAME")
      ->check(CLI::IsMember({"fp32", "bf16", "auto"}));
}

namespace {
std::string block_of_rows(const std::string& text) {
  std::int64_t rows = 0;
  const bool whole = CLI::detail::lexical_cast(text, rows);
  if (whole && rows >= 128 && rows <= 65536 && rows % 128 == 0) return {};
  return "'" + text + "' is not a multiple of 128 from 128 to 65536";
}
}  // namespace

void add_block_rows(CLI::App& app, CommonOptions& options) {
  app.add_option("--block-rows", options.block_rows,
                 "rows a worker holds at a time, a multiple of 128; changes speed and memory only")
      ->option_text("INT")
      ->check(block_of_rows)
      ->group("Advanced options");
}

void add_residual(CLI::App& app, CommonOptions& options) {
  app.add_option("--residual", options.residual,
                 "fp32 (default) or bf16: the residual stream between layers, half the memory")
      ->option_text("NAME")
      ->check(CLI::IsMember({"fp32", "bf16"}));
}

void add_topology(CLI::App& app, CommonOptions& options) {
  app.add_flag("--circular", options.circular,
               "every record is circular (default: topology=circular in its header)");
  app.add_flag("--linear", options.linear, "every record is linear, whatever its header says");
  app.add_option("--circular-list", options.circular_list,
                 "names of circular records: a name a line, assembly_info.txt of Flye, or headers "
                 "with circular=true")
      ->option_text("FILE");
}

void add_rename(CLI::App& app, CommonOptions& options) {
  app.add_option("--rename", options.rename,
                 "names of records in the output, such as {file}_{name}; {n}: number in the file")
      ->option_text("PATTERN");
}

void add_context(CLI::App& app, CommonOptions& options) {
  app.add_option("--context", options.context,
                 "what attention sees: the record (default), or all records of the file")
      ->option_text("record|file")
      ->check(CLI::IsMember({"record", "file"}));
}

void add_memory(CLI::App& app, CommonOptions& options) {
  app.add_option("--memory", options.memory,
                 "genome memory: counts of the context itself (default: as the model has it)")
      ->option_text("on|off")
      ->check(CLI::IsMember({"on", "off"}));
}

void add_input(CLI::App& app, CommonOptions& options) {
  app.add_flag("--skip-empty", options.skip_empty, "skip records without sequence");
  app.add_flag("--allow-no-eof", options.allow_no_eof,
               "accept a BGZF file without its end-of-file block");
}

void add_header(CLI::App& app, CommonOptions& options) {
  app.add_flag("--no-header,--no-PG", options.no_header, "no # provenance lines");
}

void add_dry_run(CLI::App& app, CommonOptions& options) {
  app.add_flag("--dry-run", options.dry_run,
               "print rows, memory in bytes and expected time on stdout, then stop");
  add_size(app, "--max-memory", options.max_memory,
           "refuse to take more bytes than this (default: what is available)", 1);
}

void add_verbosity(CLI::App& app, CommonOptions& options) {
  app.add_option("--verbosity", options.verbosity,
                 "1 errors, 2 warnings, 3 notes (default), 4 details, 5 all")
      ->option_text("INT");
}

void add_run(CLI::App& app, CommonOptions& options) {
  add_context(app, options);
  add_topology(app, options);
  add_rename(app, options);
  add_threads(app, options);
  add_device(app, options);
  add_residual(app, options);
  add_block_rows(app, options);
  add_dry_run(app, options);
  add_input(app, options);
  add_header(app, options);
  add_verbosity(app, options);
}

CLI::Option* add_size(CLI::App& app, const std::string& name, std::int64_t& value,
                      const std::string& help, std::int64_t least) {
  const std::string option = name.substr(name.rfind(',') + 1);
  return app
      .add_option_function<std::string>(
          name,
          [&value, option, least](const std::string& text) {
            value = parse_size(text, option);
            if (value < least) {
              throw Error(ErrorKind::kUsage,
                          option + ": " + text + " is less than " + std::to_string(least));
            }
          },
          help)
      ->option_text("SIZE");
}

CLI::Option* add_sizes(CLI::App& app, const std::string& name, std::vector<std::int64_t>& values,
                       const std::string& help, std::int64_t least) {
  const std::string option = name.substr(name.rfind(',') + 1);
  return app
      .add_option_function<std::string>(
          name,
          [&values, option, least](const std::string& text) {
            values.clear();
            for (std::size_t at = 0; at <= text.size();) {
              const std::size_t comma = std::min(text.find(',', at), text.size());
              values.push_back(parse_size(text.substr(at, comma - at), option));
              if (values.back() < least) {
                throw Error(ErrorKind::kUsage,
                            option + ": " + text + " has a value below " + std::to_string(least));
              }
              at = comma + 1;
            }
          },
          help)
      ->option_text("SIZE[,SIZE...]");
}

CLI::Option* add_repeatable(CLI::App& app, const std::string& name,
                            std::vector<std::string>& values, const std::string& help) {
  return app.add_option(name, values, help)->expected(1)->allow_extra_args(false)->take_all();
}

void prepare_app(CLI::App& app, const std::string& word, const std::string& description) {
  app.name("m5 " + word);
  app.description(description);
  app.set_help_flag("-h,--help", "print this text");
  app.get_formatter()->column_width(34);
}

std::string whole_number(const std::string& text) {
  const bool digits = text.find_first_not_of("0123456789") == std::string::npos;
  return digits && text.size() <= 18 ? "" : "'" + text + "' is not a whole number below 10^18";
}

namespace {

[[noreturn]] void refuse_empty(const std::string& option) {
  throw Error(ErrorKind::kUsage, option + ": the value is empty");
}

// CLI11 takes the next argument for the value of "--option=".
void refuse_bare_equals(int argc, char** argv) {
  for (int i = 1; i < argc && std::string_view(argv[i]) != "--"; ++i) {
    const std::string_view argument = argv[i];
    if (argument.starts_with("--") && argument.find('=') == argument.size() - 1) {
      refuse_empty(std::string(argument.substr(0, argument.size() - 1)));
    }
  }
}

}  // namespace

bool parse_command_line(CLI::App& app, int argc, char** argv) {
  if (argc < 2) {
    std::fputs(app.help().c_str(), stderr);
    throw Error(ErrorKind::kUsage, "no input given");
  }
  refuse_bare_equals(argc, argv);
  for (CLI::Option* option : app.get_options()) {
    const bool one = option->get_items_expected_max() == 1;
    if (one && option->get_multi_option_policy() == CLI::MultiOptionPolicy::Throw) {
      option->take_last();
    }
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    std::fputs(app.help().c_str(), stdout);
    return false;
  } catch (const CLI::ParseError& error) {
    throw Error(ErrorKind::kUsage,
                std::string(error.what()) + " (see " + app.get_name() + " --help)");
  }
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& value : option->results()) {
      if (!value.empty()) continue;
      const auto& names = option->get_lnames();
      refuse_empty(names.empty() ? option->get_name() : "--" + names[0]);
    }
  }
  return true;
}

void check_common(CommonOptions& options, const std::string& word) {
  set_log(options.verbosity, word);
  // A dry run tells what does not fit.
  set_max_memory(options.dry_run ? 0 : options.max_memory);
  if (options.circular && options.linear) {
    throw Error(ErrorKind::kUsage, "--circular and --linear contradict each other");
  }
  if (!options.circular_list.empty()) {
    if (options.circular || options.linear) {
      throw Error(ErrorKind::kUsage, std::string("--circular-list and --") +
                                         (options.circular ? "circular" : "linear") +
                                         " contradict each other");
    }
    options.circular_names = read_circular_list(options.circular_list, options.allow_no_eof);
  }
  if (options.host_alone) {
    if (kernels::names_cuda(options.device)) {
      throw Error(ErrorKind::kUsage, "--device " + options.device +
                                         ": this measures operations of cpu and ref; "
                                         "m5 bench speed measures a GPU");
    }
    if (options.device == "auto") options.device = "cpu";
  }
  options.device = kernels::resolve_device(options.device);
  const bool gpu = kernels::names_cuda(options.device);
  if (options.device == "ref") {
    if (options.precision == "bf16") {
      throw Error(ErrorKind::kUsage, "--device ref computes in fp32 only");
    }
    options.precision = "fp32";
  } else if (options.precision == "auto") {
    options.precision = gpu || kernels::cpu_has_native_bf16() ? "bf16" : "fp32";
    log_info("--precision auto: " + options.precision);
  } else if (options.precision == "bf16" && !gpu && !kernels::cpu_has_native_bf16()) {
    log_warning(
        "--precision bf16: this CPU has no bf16 products; rounding the operands of fp32 "
        "products takes longer than --precision fp32");
  }
  if (gpu && options.residual == "bf16" && options.precision == "fp32") {
    options.residual = "fp32";
    log_warning(
        "--residual bf16: on a GPU the residual stream has the precision of the products, fp32; "
        "--precision bf16 takes half of the memory");
  }
}

SessionOptions session_options(const CommonOptions& options) {
  SessionOptions session;
  session.threads = options.threads;
  session.device = options.device;
  session.block_rows = options.block_rows;
  session.precision = options.precision == "bf16" ? Precision::kBf16 : Precision::kFp32;
  session.bf16_residual = options.residual == "bf16";
  return session;
}

bool memory_is_on(const CommonOptions& options, const Model& model) {
  if (options.memory == "on" && model.config.memory.empty()) {
    throw Error(ErrorKind::kUsage, "--memory on: the model '" + model.config.name +
                                       "' has no genome memory (m5 train --memory on adds one)");
  }
  return options.memory != "off" && !model.config.memory.empty();
}

Model open_model(const CommonOptions& options) {
  return load_model(options.model.empty() ? default_model_path() : options.model);
}

namespace {

std::string shell_quote(const std::string& text) {
  static constexpr char kPlain[] =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=./:,@%{}";
  if (!text.empty() && text.find_first_not_of(kPlain) == std::string::npos) return text;
  std::string quoted = "'";
  for (const char c : text) {
    if (c == '\'') {
      quoted += "'\\''";
    } else {
      quoted += (c == '\n' || c == '\r' || c == '\t') ? ' ' : c;  // the header is one line
    }
  }
  return quoted + "'";
}

}  // namespace

std::string provenance_command(int argc, char** argv) {
  static const std::vector<std::string> kLong = {"--threads", "--output", "--summary", "--sample",
                                                 "--chrom-sizes"};
  std::string line = "m5";
  bool options_over = false;
  for (int i = 0; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument == "--") options_over = true;
    if (!options_over && i > 0 && argument.size() > 1 && argument[0] == '-') {
      if (argument.starts_with("--write-index")) continue;
      if (argument == "-@" || argument == "-o" ||
          std::find(kLong.begin(), kLong.end(), argument) != kLong.end()) {
        ++i;  // and its value
        continue;
      }
      if (argument.starts_with("-@") || (argument[1] == 'o')) continue;  // value attached
      if (std::any_of(kLong.begin(), kLong.end(), [&](const std::string& option) {
            return argument.starts_with(option + "=");
          })) {
        continue;
      }
    }
    line += " " + shell_quote(argument);
  }
  return line;
}

std::vector<std::string> header_lines(const CommonOptions& options, const std::string& word,
                                      int argc, char** argv, const Model& model,
                                      const std::string& settings) {
  if (options.no_header) return {};
  return {"#m5 " + word + " " + version(), "#command: " + provenance_command(argc, argv),
          "#model: " + model.config.name + " sha256=" + model.sha256,
          "#settings: " + settings + " context=" + options.context + " device=" + options.device +
              " precision=" + options.precision +
              (options.residual == "bf16" ? " residual=bf16" : "")};
}

}  // namespace m5
