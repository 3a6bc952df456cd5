// What m5 score and m5 embed read: files, regions, and batches of records that go through the model
// together.
#pragma once

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <set>
#include <stop_token>
#include <string>
#include <vector>

#include "data/genome_store.hpp"
#include "data/tokenizer.hpp"
#include "io/name_set.hpp"
#include "io/regions.hpp"
#include "io/sequence_reader.hpp"
#include "io/topology.hpp"
#include "m5/error.hpp"
#include "m5/session.hpp"
#include "tools/options.hpp"
#include "tools/paths.hpp"

namespace m5 {

// Positional arguments and region options.
struct InputArguments {
  std::vector<std::string> positional;  // FILE... then regions
  std::vector<std::string> regions;     // -r
  std::string regions_file;             // -R
};
void add_input_arguments(CLI::App& app, InputArguments& arguments);

// The first positional argument is a file; a later one is a file if it is "-", if it exists, or if
// its name ends like a sequence file's, and a region otherwise. Throws Error(kUsage) for a region
// that cannot be one, or when "-" is given twice.
struct InputPlan {
  std::vector<std::string> files;
  std::vector<Region> regions;
};
InputPlan plan_input(const InputArguments& arguments, bool allow_no_eof);

// What a table calls the sample of each file: its name without folder and suffixes ("stdin" of
// "-"), or, where two files would have one name, the path as it was given.
std::vector<std::string> sample_names(const std::vector<std::string>& files);

// --circular, --linear, or what the files and --circular-list say.
Topology topology_of(const CommonOptions& options);

// What records are called in the output: --rename, or as in their file.
class Labels {
 public:
  // Throws Error(kUsage) for a pattern that is none, or gives all records of a file one name.
  Labels(const std::string& pattern, const std::vector<std::string>& files);
  // Of the records in their order, every one.
  std::string next(const SequenceRecord& record);

 private:
  struct Piece {
    enum class Kind { kText, kFile, kName, kNumber } kind;
    std::string text;
  };
  std::vector<Piece> pieces_;  // empty: as in the file
  std::vector<std::string> files_;
  std::int64_t file_ = -1, number_ = 0;
};

struct InputRecord {
  std::string file, name;
  std::string label;            // its name in the output
  std::int64_t file_index = 0;  // of `file` in the list given to the reader
  std::vector<Token> tokens;
  BaseCounts counts;
  bool circular = false;
};

// A region of a record, and the window around it that goes through the model.
struct RegionWindow {
  Interval region;          // in the record
  std::int64_t first = 0;   // position of the window's first nt; below 0 over the end of a circle
  std::int64_t length = 0;  // nt of the record
  std::size_t record = 0;   // in `whole`
};

struct InputBatch {
  std::vector<InputRecord> records;
  std::vector<TokenView> views;  // of the records, contexts set
  std::int64_t rows = 0, contexts = 0;
  std::uint64_t names_memory = 0;  // bytes: what the reader holds of all names so far
  // Of each record, where the records are windows (tools/region_windows.hpp), and what they are of.
  std::vector<RegionWindow> windows;
  std::shared_ptr<const InputBatch> whole;
};

// Short records share a batch up to these limits: so many that all workers are busy, and so few
// that their attention states take little memory. Results do not depend on the company.
struct BatchLimits {
  std::int64_t rows;  // and bytes of names
  std::int64_t contexts;
};
BatchLimits batch_limits(const Session& session);

// Batches in the order of the input. With --context record a batch is one long record or several
// short ones, each its own context; with --context file it is all records of one file, one context.
class BatchReader {
 public:
  // keep, when set: with --context record, records it refuses are read and checked, then dropped.
  // stop: SequenceReaderOptions. check, when set, is asked while a long record, or a long context
  // of many, is read, whether what there is of it by now may go through the model; it throws if
  // not.
  BatchReader(const std::vector<std::string>& files, const CommonOptions& options,
              const BatchLimits& limits, std::function<bool(const std::string& name)> keep = {},
              std::stop_token stop = {},
              std::function<void(const std::string& what, std::int64_t rows)> check = {});
  bool next(InputBatch& batch);  // false after the last one

 private:
  bool next_record(InputRecord& record);
  void may_grow(const SequenceRecord& record, std::int64_t nt, std::uint64_t room);

  CommonOptions options_;
  Topology topology_;
  Labels labels_;
  NameSet names_;  // of the output, where they must be unique
  std::size_t files_;
  BatchLimits limits_;
  std::function<bool(const std::string&)> keep_;
  std::function<void(const std::string&, std::int64_t)> check_;
  SequenceReader reader_;
  SequenceRecord raw_;
  InputRecord pending_;  // read, but belongs to the next batch
  bool has_pending_ = false;
  bool warned_u_ = false;
  std::int64_t rows_ = 0;  // of the batch so far
};

// The input plan of a command, after check_paths of all it writes (--output and more_outputs) and
// reads (sequences, regions, model and more_inputs), and require_readable of the sequences.
InputPlan open_input(const InputArguments& arguments, const CommonOptions& options,
                     const std::vector<NamedPath>& more_outputs,
                     const std::vector<NamedPath>& more_inputs = {});

// Whether all are regular files: then names that are asked for and lengths are looked at in a first
// reading, before anything is computed. Of a stream they are known at its end.
bool can_be_read_twice(const std::vector<std::string>& files);
// That reading; throws as SequenceReader does.
void for_each_record(const std::vector<std::string>& files, const CommonOptions& options,
                     const std::function<void(const SequenceRecord& record, bool circular)>& visit);

// Throws Error(kInput), where that can be known beforehand, for names that come twice in the output
// and may not (of records that are kept: as BatchReader), and if no record is one of those of
// --circular-list; warns of some of these that are not there.
void check_names(const std::vector<std::string>& files, const CommonOptions& options,
                 const std::function<bool(const std::string& name)>& keep);
// The last for genomes that are in memory.
void check_circular_list(const CommonOptions& options,
                         std::initializer_list<const GenomeStore*> stores);

// Throws Error(kInput) for a region that no record has, where that can be known beforehand.
void check_regions(RegionSelector& selector, const std::vector<std::string>& files,
                   const CommonOptions& options);

std::string batch_name(const InputBatch& batch);

// Runs `write` of a sink, which does not know the file that an Error about the data has to name.
template <class Write>
void name_file(const std::string& file, Write write) {
  try {
    write();
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kNumeric && error.kind() != ErrorKind::kInput) throw;
    throw Error(error.kind(), file + ": " + error.what());
  }
}

}  // namespace m5
