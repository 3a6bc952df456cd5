#include "tools/input.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "base/log.hpp"
#include "base/memory.hpp"
#include "base/output.hpp"
#include "base/system.hpp"
#include "m5/error.hpp"

namespace m5 {

namespace {

bool exists(const std::string& path) {
  struct stat status;
  return stat(path.c_str(), &status) == 0;
}

constexpr std::size_t kLongRecord = std::size_t{1} << 20;  // nt

constexpr std::int64_t kCheckedRows = 1'000'000;  // of a context of many records

// Position of the dot of a sequence file's suffix in the name, or npos.
std::size_t sequence_suffix(const std::string& path) {
  const std::size_t dot = path.rfind('.');
  if (dot == std::string::npos) return dot;
  const std::string suffix = path.substr(dot + 1);
  for (const char* known : {"fa", "fna", "fas", "fasta", "ffn", "fq", "fastq", "gb", "gbk", "gbff",
                            "gz", "bgz", "bgzf"}) {
    if (suffix == known) return dot;
  }
  return std::string::npos;
}

bool named_like_sequences(const std::string& path) {
  return path.find(':') == std::string::npos && sequence_suffix(path) != std::string::npos;
}

std::string sample_name(const std::string& file) {
  if (file == "-") return "stdin";
  std::string name = file.substr(file.rfind('/') + 1);
  const bool packed = has_bgzf_suffix(name);
  for (int suffix = packed ? 2 : 1; suffix > 0; --suffix) {
    const std::size_t dot = sequence_suffix(name);
    if (dot != std::string::npos && dot > 0) name.resize(dot);
  }
  return name;
}

[[noreturn]] void refuse_repeated(const SequenceRecord& record, const std::string& label,
                                  std::size_t files) {
  throw Error(
      ErrorKind::kInput,
      record.file + ": record '" + label.substr(0, 200) +
          "': there was one of this name before, and rows of both could not be told apart; " +
          (files > 1 ? "--rename {file}_{name} puts the name of the file before it"
                     : "--rename {name}_{n} numbers the records"));
}

}  // namespace

void add_input_arguments(CLI::App& app, InputArguments& arguments) {
  app.add_option("FILE", arguments.positional,
                 "FASTA, FASTQ or GenBank files (plain, gzip, BGZF; - for stdin), then regions "
                 "NAME[:FROM[-TO]], 1-based inclusive")
      ->required()
      ->option_text("... [REGION ...]");
  add_repeatable(app, "-r,--region", arguments.regions,
                 "NAME[:FROM[-TO]]: print these rows only; may be repeated")
      ->option_text("REGION");
  app.add_option("-R,--regions-file", arguments.regions_file, "the same from a BED file")
      ->option_text("BED");
}

InputPlan plan_input(const InputArguments& arguments, bool allow_no_eof) {
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
    std::vector<Region> more = read_bed_regions(arguments.regions_file, allow_no_eof);
    if (plan.regions.empty()) {
      plan.regions = std::move(more);
    } else {
      plan.regions.insert(plan.regions.end(), std::make_move_iterator(more.begin()),
                          std::make_move_iterator(more.end()));
    }
  }
  return plan;
}

std::vector<std::string> sample_names(const std::vector<std::string>& files) {
  std::vector<std::string> names(files.size());
  std::transform(files.begin(), files.end(), names.begin(), sample_name);
  std::vector<std::string> sorted = names;
  std::sort(sorted.begin(), sorted.end());
  for (std::size_t i = 0; i < files.size(); ++i) {
    const auto [first, last] = std::equal_range(sorted.begin(), sorted.end(), names[i]);
    if (last - first > 1) names[i] = files[i];
  }
  return names;
}

Topology topology_of(const CommonOptions& options) {
  using Rule = Topology::Rule;
  return {options.circular ? Rule::kCircular
          : options.linear ? Rule::kLinear
                           : Rule::kFromFile,
          options.circular_names};
}

Labels::Labels(const std::string& pattern, const std::vector<std::string>& files)
    : files_(sample_names(files)) {
  using Kind = Piece::Kind;
  for (std::string& file : files_) {  // blanks end a name
    for (char& c : file) {
      if (static_cast<unsigned char>(c) <= ' ' || c == 127) c = '_';
    }
  }
  bool differ = pattern.empty();
  for (std::size_t at = 0; at < pattern.size();) {
    const std::size_t open = std::min(pattern.find('{', at), pattern.size());
    if (open > at) pieces_.push_back({Kind::kText, pattern.substr(at, open - at)});
    if (open == pattern.size()) break;
    const std::size_t close = std::min(pattern.find('}', open), pattern.size());
    const std::string word = pattern.substr(open, close + 1 - open);
    const Kind kind = word == "{file}"   ? Kind::kFile
                      : word == "{name}" ? Kind::kName
                      : word == "{n}"    ? Kind::kNumber
                                         : Kind::kText;
    if (kind == Kind::kText) {
      throw Error(ErrorKind::kUsage, "--rename: '" + word + "' is none of {file}, {name} and {n}");
    }
    differ = differ || kind != Kind::kFile;
    pieces_.push_back({kind, ""});
    at = close + 1;
  }
  for (const Piece& piece : pieces_) {
    const bool blank = std::any_of(piece.text.begin(), piece.text.end(), [](char c) {
      return static_cast<unsigned char>(c) <= ' ' || c == 127;
    });
    if (blank) throw Error(ErrorKind::kUsage, "--rename: a name has no blanks");
  }
  if (!differ) {
    throw Error(ErrorKind::kUsage, "--rename: without {name} or {n} all records of a file are one");
  }
}

std::string Labels::next(const SequenceRecord& record) {
  if (pieces_.empty()) return record.name;
  if (std::exchange(file_, record.file_index) != record.file_index) number_ = 0;
  ++number_;
  std::string label;
  for (const Piece& piece : pieces_) {
    switch (piece.kind) {
      case Piece::Kind::kText:
        label += piece.text;
        break;
      case Piece::Kind::kFile:
        label += files_[static_cast<std::size_t>(record.file_index)];
        break;
      case Piece::Kind::kName:
        label += record.name;
        break;
      case Piece::Kind::kNumber:
        label += std::to_string(number_);
        break;
    }
  }
  return label;
}

BatchLimits batch_limits(const Session& session) {
  constexpr std::uint64_t kStates = 128'000'000;  // bytes
  const auto per_worker = [&](std::int64_t n) { return n * session.threads(); };
  const std::uint64_t state = session.memory_needed(0, 2) - session.memory_needed(0, 1);
  const auto fitting = static_cast<std::int64_t>(kStates / std::max<std::uint64_t>(1, state));
  return {std::max<std::int64_t>(131072, per_worker(8192)),
          std::max({std::int64_t{64}, fitting, per_worker(16)})};
}

BatchReader::BatchReader(const std::vector<std::string>& files, const CommonOptions& options,
                         const BatchLimits& limits,
                         std::function<bool(const std::string& name)> keep, std::stop_token stop,
                         std::function<void(const std::string& what, std::int64_t rows)> check)
    : options_(options),
      topology_(topology_of(options)),
      labels_(options.rename, files),
      files_(files.size()),
      limits_(limits),
      keep_(std::move(keep)),
      check_(std::move(check)),
      reader_(files, [&] {
        SequenceReaderOptions reader;
        reader.skip_empty = options.skip_empty;
        reader.allow_no_eof = options.allow_no_eof;
        reader.warn_duplicates = !options.unique_names;
        reader.stop = std::move(stop);
        reader.may_grow = [this](const SequenceRecord& record, std::int64_t nt,
                                 std::uint64_t room) { may_grow(record, nt, room); };
        return reader;
      }()) {}

void BatchReader::may_grow(const SequenceRecord& record, std::int64_t nt, std::uint64_t room) {
  const std::string what = record.file + ": record '" + record.name.substr(0, 200) +
                           "', of which " + std::to_string(nt) + " nt are read";
  require_more_memory(room, what);
  const bool by_file = options_.context == "file";
  if (check_ && (by_file || !keep_ || keep_(record.name))) check_(what, nt + (by_file ? rows_ : 0));
}

bool BatchReader::next_record(InputRecord& record) {
  while (reader_.next(raw_)) {
    record.file = raw_.file;
    record.name = raw_.name;
    record.label = labels_.next(raw_);
    record.counts = BaseCounts{};
    record.tokens = tokenize(raw_.bases, raw_.file, raw_.name, &record.counts);
    if (record.counts.u > 0 && !warned_u_) {
      log_warning(record.file + ": record '" + record.name + "': U is read as T");
      warned_u_ = true;
    }
    record.circular = topology_.is_circular(raw_);
    record.file_index = raw_.file_index;
    if (raw_.bases.capacity() > kLongRecord) std::string().swap(raw_.bases);
    if (options_.context == "record" && keep_ && !keep_(record.name)) continue;
    if (options_.unique_names && !names_.insert(record.label)) {
      refuse_repeated(raw_, record.label, files_);
    }
    return true;
  }
  return false;
}

bool BatchReader::next(InputBatch& batch) {
  batch = InputBatch{};
  const bool by_file = options_.context == "file";
  std::int64_t size = 0;  // nt, and bytes of names
  for (;;) {
    if (!by_file && (size >= limits_.rows || batch.contexts >= limits_.contexts)) break;
    if (!has_pending_ && !next_record(pending_)) break;
    has_pending_ = true;
    const auto length = static_cast<std::int64_t>(pending_.tokens.size());
    // A name may be longer than its sequence, and is held in several places.
    size += length + static_cast<std::int64_t>(pending_.name.size());
    if (!batch.records.empty()) {
      const bool full = by_file ? pending_.file_index != batch.records.front().file_index
                                : size > limits_.rows || batch.contexts >= limits_.contexts;
      if (full) break;
    }
    rows_ = batch.rows + length;
    if (by_file && check_ && rows_ / kCheckedRows != batch.rows / kCheckedRows) {
      check_(pending_.file + ": records up to '" + pending_.name + "'", rows_);
    }
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
  batch.names_memory = reader_.names_memory() + names_.memory();
  return !batch.records.empty();
}

InputPlan open_input(const InputArguments& arguments, const CommonOptions& options,
                     const std::vector<NamedPath>& more_outputs,
                     const std::vector<NamedPath>& more_inputs) {
  InputPlan plan = plan_input(arguments, options.allow_no_eof);
  std::vector<NamedPath> outputs = {{"--output", options.output}};
  outputs.insert(outputs.end(), more_outputs.begin(), more_outputs.end());
  std::vector<NamedPath> inputs;
  for (const std::string& file : plan.files) inputs.push_back({"sequences", file});
  inputs.push_back({"--regions-file", arguments.regions_file});
  inputs.push_back({"--circular-list", options.circular_list});
  inputs.push_back({"--model", options.model.empty() ? default_model_path() : options.model});
  inputs.insert(inputs.end(), more_inputs.begin(), more_inputs.end());
  check_paths(outputs, inputs);
  require_readable(plan.files);
  return plan;
}

bool can_be_read_twice(const std::vector<std::string>& files) {
  return std::all_of(files.begin(), files.end(), [](const std::string& file) {
    struct stat status;
    return file != "-" && stat(file.c_str(), &status) == 0 && S_ISREG(status.st_mode);
  });
}

void for_each_record(
    const std::vector<std::string>& files, const CommonOptions& options,
    const std::function<void(const SequenceRecord& record, bool circular)>& visit) {
  const QuietLog quiet;  // the second reading tells what there is to tell
  const Topology topology = topology_of(options);
  SequenceReader reader(files, {.skip_empty = options.skip_empty,
                                .allow_no_eof = options.allow_no_eof,
                                .warn_duplicates = false});
  for (SequenceRecord record; reader.next(record);) visit(record, topology.is_circular(record));
}

namespace {

// found: those of the list that a record has.
void require_listed(const CommonOptions& options, const std::set<std::string>& found) {
  std::size_t missing = 0;
  std::string first;
  for (const std::string& name : options.circular_names) {
    if (found.count(name) == 0 && missing++ == 0) first = name.substr(0, 200);
  }
  if (missing == 0) return;
  const std::string text = "--circular-list " + options.circular_list + ": " +
                           std::to_string(missing) + " of its " +
                           std::to_string(options.circular_names.size()) +
                           " names are of no record, such as '" + first + "'";
  if (missing == options.circular_names.size()) throw Error(ErrorKind::kInput, text);
  log_warning(text);
}

}  // namespace

void check_names(const std::vector<std::string>& files, const CommonOptions& options,
                 const std::function<bool(const std::string& name)>& keep) {
  const bool unique = options.unique_names && files.size() > 1;
  Labels labels(options.rename, files);
  if ((!unique && options.circular_list.empty()) || !can_be_read_twice(files)) return;
  NameSet seen;
  std::set<std::string> circular;
  for_each_record(files, options, [&](const SequenceRecord& record, bool) {
    const std::string label = labels.next(record);
    if (options.circular_names.count(record.name) > 0) circular.insert(record.name);
    if (unique && (!keep || keep(record.name)) && !seen.insert(label)) {
      refuse_repeated(record, label, files.size());
    }
  });
  require_listed(options, circular);
}

void check_circular_list(const CommonOptions& options,
                         std::initializer_list<const GenomeStore*> stores) {
  std::set<std::string> found;
  for (const GenomeStore* store : stores) {
    for (const GenomeRecord& record : store->records) {
      if (options.circular_names.count(record.name) > 0) found.insert(record.name);
    }
  }
  require_listed(options, found);
}

void check_regions(RegionSelector& selector, const std::vector<std::string>& files,
                   const CommonOptions& options) {
  if (!can_be_read_twice(files)) return;
  for_each_record(files, options, [&](const SequenceRecord& record, bool) {
    selector.select(record.name, static_cast<std::int64_t>(record.bases.size()));
  });
  selector.finish();
  selector.start_over();
}

std::string batch_name(const InputBatch& batch) {
  const InputRecord& first = batch.records.front();
  if (batch.records.size() == 1) return first.file + ": record '" + first.name + "'";
  return first.file + ": " + std::to_string(batch.records.size()) + " records from '" + first.name +
         "' on";
}

}  // namespace m5
