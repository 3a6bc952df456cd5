#include "tools/input.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <utility>

#include "base/log.hpp"
#include "base/system.hpp"
#include "m5/error.hpp"
#include "m5/version.hpp"

namespace m5 {

namespace {

// Short records share a batch up to these limits. Results do not depend on the company.
constexpr std::int64_t kBatchRows = 131072;
constexpr std::int64_t kBatchContexts = 64;

bool exists(const std::string& path) {
  struct stat status;
  return stat(path.c_str(), &status) == 0;
}

bool named_like_sequences(const std::string& path) {
  if (path.find(':') != std::string::npos) return false;
  const std::size_t dot = path.rfind('.');
  if (dot == std::string::npos) return false;
  const std::string suffix = path.substr(dot + 1);
  for (const char* known :
       {"fa", "fna", "fas", "fasta", "ffn", "fq", "fastq", "gz", "bgz", "bgzf"}) {
    if (suffix == known) return true;
  }
  return false;
}

}  // namespace

void add_input_arguments(CLI::App& app, InputArguments& arguments) {
  app.add_option("FILE", arguments.positional,
                 "FASTA or FASTQ files (plain, gzip, BGZF; - for stdin), then regions "
                 "NAME[:FROM[-TO]], 1-based inclusive")
      ->required()
      ->option_text("... [REGION ...]");
  add_repeatable(app, "-r,--region", arguments.regions,
                 "NAME[:FROM[-TO]]: print these rows only; may be repeated")
      ->option_text("REGION");
  app.add_option("-R,--regions-file", arguments.regions_file, "the same from a BED file")
      ->option_text("BED");
}

InputPlan plan_input(const InputArguments& arguments) {
  InputPlan plan;
  int streams = 0;
  for (const std::string& argument : arguments.positional) {
    if (plan.files.empty() || argument == "-" || exists(argument) ||
        named_like_sequences(argument)) {
      plan.files.push_back(argument);
      streams += argument == "-";
    } else {
      plan.regions.push_back(parse_region(argument));
    }
  }
  if (streams > 1) throw Error(ErrorKind::kUsage, "- (stdin) can be read once only");
  for (const std::string& text : arguments.regions) plan.regions.push_back(parse_region(text));
  if (!arguments.regions_file.empty()) {
    const std::vector<Region> more = read_bed_regions(arguments.regions_file);
    plan.regions.insert(plan.regions.end(), more.begin(), more.end());
  }
  return plan;
}

BatchReader::BatchReader(const std::vector<std::string>& files, const CommonOptions& options,
                         std::function<bool(const std::string& name)> keep)
    : options_(options), keep_(std::move(keep)), reader_(files, [&] {
        SequenceReaderOptions reader;
        reader.skip_empty = options.skip_empty;
        reader.allow_no_eof = options.allow_no_eof;
        return reader;
      }()) {}

bool BatchReader::next_record(InputRecord& record) {
  while (reader_.next(raw_)) {
    record.file = raw_.file;
    record.name = raw_.name;
    record.counts = BaseCounts{};
    record.tokens = tokenize(raw_.bases, raw_.file, raw_.name, &record.counts);
    if (record.counts.u > 0 && !warned_u_) {
      log_warning(record.file + ": record '" + record.name + "': U is read as T");
      warned_u_ = true;
    }
    record.circular = !options_.linear && (options_.circular || raw_.circular);
    file_index_ = raw_.file_index;
    if (raw_.bases.capacity() > (std::size_t{1} << 24)) std::string().swap(raw_.bases);
    if (options_.context == "record" && keep_ && !keep_(record.name)) continue;
    return true;
  }
  return false;
}

bool BatchReader::next(InputBatch& batch) {
  batch = InputBatch{};
  const bool by_file = options_.context == "file";
  for (;;) {
    if (!by_file && (batch.rows >= kBatchRows || batch.contexts >= kBatchContexts)) break;
    if (!has_pending_) {
      if (!next_record(pending_)) break;
      pending_file_ = file_index_;
    }
    has_pending_ = true;
    const auto length = static_cast<std::int64_t>(pending_.tokens.size());
    if (!batch.records.empty()) {
      const bool full = by_file
                            ? pending_file_ != batch_file_
                            : batch.rows + length > kBatchRows || batch.contexts >= kBatchContexts;
      if (full) break;
    }
    batch_file_ = pending_file_;
    has_pending_ = false;
    batch.rows += length;
    batch.contexts = by_file ? 1 : batch.contexts + 1;
    batch.records.push_back(std::move(pending_));
    pending_ = InputRecord{};
  }
  for (const InputRecord& record : batch.records) {
    TokenView view;
    view.tokens = record.tokens.data();
    view.length = static_cast<std::int64_t>(record.tokens.size());
    view.circular = record.circular;
    view.context = by_file ? 0 : static_cast<std::int64_t>(batch.views.size());
    batch.views.push_back(view);
  }
  return !batch.records.empty();
}

void check_paths(const std::vector<NamedPath>& outputs, const std::vector<NamedPath>& inputs) {
  const auto is_stdout = [](const std::string& path) {
    return path == "-" || path == "/dev/stdout";
  };
  const auto is_special = [](const std::string& path) {  // nothing is lost by writing to it
    struct stat status;
    return stat(path.c_str(), &status) == 0 && !S_ISREG(status.st_mode);
  };
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    const NamedPath& output = outputs[i];
    for (std::size_t j = 0; j < i; ++j) {
      const NamedPath& other = outputs[j];
      const bool same = is_stdout(output.path) || is_stdout(other.path)
                            ? is_stdout(output.path) && is_stdout(other.path)
                            : !is_special(output.path) && same_file(output.path, other.path);
      if (same) {
        throw Error(ErrorKind::kUsage,
                    other.what + " and " + output.what + " are the same file: " + output.path);
      }
    }
    if (is_stdout(output.path) || is_special(output.path)) continue;
    for (const NamedPath& input : inputs) {
      if (input.path != "-" && same_file(output.path, input.path)) {
        throw Error(ErrorKind::kUsage, output.what + ": " + output.path + " is also an input (" +
                                           input.what + "), which it would replace");
      }
    }
  }
}

std::vector<NamedPath> named_inputs(const InputArguments& arguments, const InputPlan& plan,
                                    const CommonOptions& options) {
  std::vector<NamedPath> inputs;
  for (const std::string& file : plan.files) inputs.push_back({"sequences", file});
  if (!arguments.regions_file.empty()) {
    inputs.push_back({"--regions-file", arguments.regions_file});
  }
  inputs.push_back({"--model", options.model.empty() ? default_model_path() : options.model});
  return inputs;
}

std::string batch_name(const InputBatch& batch) {
  const InputRecord& first = batch.records.front();
  if (batch.records.size() == 1) return first.file + ": record '" + first.name + "'";
  return first.file + ": " + std::to_string(batch.records.size()) + " records from '" + first.name +
         "' on";
}

std::uint64_t program_memory(const InputBatch& batch) {
  constexpr std::uint64_t kProgram = 32'000'000;                 // measured: 20 to 25 MB
  return kProgram + 2 * static_cast<std::uint64_t>(batch.rows);  // letters and tokens
}

void check_memory(const CommonOptions& options, std::uint64_t needed, const std::string& what,
                  std::uint64_t held) {
  const auto free = static_cast<std::uint64_t>(available_memory_bytes());
  const std::uint64_t available = free + held;
  const auto allowed = static_cast<std::uint64_t>(options.max_memory);
  const bool limited = options.max_memory > 0 && allowed < available;
  const std::uint64_t limit = limited ? allowed : available;
  if (needed <= limit) return;
  throw Error(ErrorKind::kResource,
              what + ": needs " + with_commas(static_cast<std::int64_t>(needed)) + " bytes, " +
                  with_commas(static_cast<std::int64_t>(limit)) +
                  (limited ? " allowed by --max-memory" : " available") +
                  "; use a smaller model, shorter records or a machine with more memory");
}

double calibrate_seconds_per_row(Session& session, std::int64_t rows) {
  const std::int64_t sample = std::clamp<std::int64_t>(rows, 1, 16384);
  std::vector<Token> tokens(static_cast<std::size_t>(sample));
  std::uint32_t state = 1;
  for (Token& token : tokens) {
    state = state * 1664525u + 1013904223u;
    token = static_cast<Token>(state >> 30);
  }
  TokenView view;
  view.tokens = tokens.data();
  view.length = sample;
  const std::int64_t row = 0;
  float log_probs[kBases];
  double best = 0;
  for (int run = 0; run < 2; ++run) {  // the first one warms up
    const auto start = std::chrono::steady_clock::now();
    session.log_probs({&view, 1}, {&row, 1}, log_probs);
    best = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }
  return best / static_cast<double>(sample);
}

void print_dry_run(const CommonOptions& options, const Session& session, const DryRun& plan) {
  std::printf("device\t%s\n", session.device_name().c_str());
  std::printf("threads\t%d\n", session.threads());
  std::printf("records\t%lld\n", static_cast<long long>(plan.records));
  std::printf("rows\t%lld\n", static_cast<long long>(plan.rows));
  std::printf("rows_through_the_model\t%lld\n", static_cast<long long>(plan.forward_rows));
  std::printf("memory_bytes\t%llu\n", static_cast<unsigned long long>(plan.memory));
  std::int64_t limit = available_memory_bytes();
  if (options.max_memory > 0) limit = std::min(limit, options.max_memory);
  std::printf("memory_available_bytes\t%lld\n", static_cast<long long>(limit));
  std::printf("memory_fits\t%s\n", plan.memory <= static_cast<std::uint64_t>(limit) ? "yes" : "no");
  std::printf("expected_seconds\t%.1f\n", plan.seconds);
}

std::vector<std::string> provenance_lines(const std::string& word, int argc, char** argv,
                                          const Model& model) {
  return {"#m5 " + word + " " + version(), "#command: " + provenance_command(argc, argv),
          "#model: " + model.config.name + " sha256=" + model.sha256};
}

}  // namespace m5
