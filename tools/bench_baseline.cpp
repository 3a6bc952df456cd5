#include "tools/bench_baseline.hpp"

#include <cstdint>
#include <filesystem>
#include <set>

#include "base/log.hpp"
#include "base/memory.hpp"
#include "data/genome_store.hpp"
#include "data/tokenizer.hpp"
#include "io/sequence_reader.hpp"
#include "m5/error.hpp"

namespace m5 {
namespace {

constexpr std::size_t kLongRecord = std::size_t{1} << 20;  // nt

std::string fingerprint(const std::vector<std::string>& files) {
  std::string text;
  for (const std::string& file : files) {
    if (file == "-") throw Error(ErrorKind::kUsage, "--baseline-cache: stdin cannot be cached");
    std::error_code error;
    const auto path = std::filesystem::weakly_canonical(file, error);
    const auto size = std::filesystem::file_size(file, error);
    const auto time = std::filesystem::last_write_time(file, error);
    if (error) throw Error(ErrorKind::kIo, file + ": " + error.message());
    text += path.string() + "\t" + std::to_string(size) + "\t" +
            std::to_string(static_cast<std::int64_t>(time.time_since_epoch().count())) + "\n";
  }
  return text;
}

void warn_overlap(const std::vector<std::string>& evaluated,
                  const std::vector<std::string>& train) {
  std::set<std::filesystem::path> known;
  std::error_code error;
  for (const std::string& file : train)
    known.insert(std::filesystem::weakly_canonical(file, error));
  for (const std::string& file : evaluated) {
    if (known.count(std::filesystem::weakly_canonical(file, error)) != 0) {
      log_warning(file + " is also a training file of the k-mer baseline, which flatters it");
    }
  }
}

}  // namespace

std::vector<std::string> baseline_files(const BaselineOptions& options) {
  std::vector<std::string> files = options.files;
  if (options.list.empty()) return files;
  for (auto& file : read_file_list(options.list)) files.push_back(std::move(file));
  return files;
}

std::uint64_t baseline_memory(const BaselineOptions& options) {
  const bool none = options.cache.empty() && baseline_files(options).empty();
  return none ? 0 : KmerBaseline::memory_needed();
}

std::optional<KmerBaseline> load_baseline(const BaselineOptions& options,
                                          const CommonOptions& common,
                                          const std::vector<std::string>& evaluated) {
  const std::vector<std::string> files = baseline_files(options);
  if (files.empty() && options.cache.empty()) return std::nullopt;
  warn_overlap(evaluated, files);
  const std::string mark = options.cache.empty() ? "" : fingerprint(files);
  if (!options.cache.empty() && std::filesystem::exists(options.cache)) {
    std::string reason;
    if (auto baseline = KmerBaseline::load(options.cache, KmerBaseline::kMaxSide, mark, &reason)) {
      log_info("k-mer counts of " + with_commas(baseline->bases()) + " nt read from " +
               options.cache);
      return baseline;
    }
    if (files.empty()) throw Error(ErrorKind::kInput, options.cache + ": " + reason);
    log_warning(options.cache + ": " + reason + "; counting anew");
  }
  if (files.empty()) {
    throw Error(ErrorKind::kIo, options.cache + ": no such file, and no --baseline-train to count");
  }
  log_info("counting k-mers of " + std::to_string(files.size()) + " files");
  SequenceReaderOptions reading;
  reading.skip_empty = common.skip_empty;
  reading.allow_no_eof = common.allow_no_eof;
  reading.warn_duplicates = false;
  SequenceReader reader(files, reading);
  SequenceRecord record;
  KmerBaseline baseline;
  while (reader.next(record)) {
    if (record.bases.size() >= kLongRecord) {
      require_more_memory(record.bases.size() + kMemoryTolerance, record.file);
    }
    const std::vector<Token> tokens = tokenize(record.bases, record.file, record.name);
    baseline.add({tokens.data(), static_cast<std::int64_t>(tokens.size()), record.circular, 0});
  }
  if (baseline.bases() == 0) {
    throw Error(ErrorKind::kInput, files[0] + (files.size() > 1 ? " and others" : "") +
                                       ": no A, C, G or T to count k-mers of");
  }
  baseline.finish();
  if (!options.cache.empty()) baseline.save(options.cache, mark);
  return baseline;
}

}  // namespace m5
