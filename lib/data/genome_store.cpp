#include "data/genome_store.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/memory.hpp"
#include "base/sha256.hpp"
#include "data/tokenizer.hpp"
#include "m5/error.hpp"

namespace m5 {

std::int64_t GenomeStore::record_at(std::int64_t position) const {
  const auto after = std::upper_bound(
      records.begin(), records.end(), position,
      [](std::int64_t p, const GenomeRecord& record) { return p < record.offset; });
  return after - records.begin() - 1;
}

void GenomeStore::add(const std::string& name, std::span<const Token> sequence, bool circular) {
  if (files.empty()) files.emplace_back();
  records.push_back({.name = name,
                     .file = static_cast<std::int64_t>(files.size()) - 1,
                     .offset = total(),
                     .length = static_cast<std::int64_t>(sequence.size()),
                     .circular = circular});
  tokens.insert(tokens.end(), sequence.begin(), sequence.end());
}

std::string GenomeStore::digest() const {
  Sha256 sha;
  for (const GenomeRecord& record : records) {
    sha.update(std::to_string(record.length) + (record.circular ? " circular\n" : " linear\n"));
    sha.update(begin_of(record), static_cast<std::size_t>(record.length));
  }
  return sha.hex();
}

namespace {

constexpr std::size_t kLongRecord = std::size_t{1} << 20;  // nt

// Room for all nt of files that are not compressed, so that they need no copying. Memory is taken
// when it is filled only.
void reserve_for(const std::vector<std::string>& files, std::vector<Token>& tokens) {
  std::uint64_t bytes = 0;
  for (const std::string& file : files) {
    struct stat status {};
    if (stat(file.c_str(), &status) == 0 && S_ISREG(status.st_mode)) {
      bytes += static_cast<std::uint64_t>(status.st_size);
    }
  }
  if (bytes < memory_limit(0).bytes / 2) tokens.reserve(bytes);
}

// For n more, checked: by a quarter each time, because old and new stand side by side.
void make_room(std::vector<Token>& tokens, std::size_t n, const std::string& file) {
  constexpr std::size_t kSmall = std::size_t{1} << 20;
  if (tokens.capacity() - tokens.size() >= n) {
    if (n >= kSmall) require_more_memory(n, file);
    return;
  }
  const std::size_t room = std::max(tokens.size() + n, tokens.capacity() + tokens.capacity() / 4);
  if (room >= kSmall) require_more_memory(room, file);
  tokens.reserve(room);
}

}  // namespace

GenomeStore load_genomes(const std::vector<std::string>& files, const Topology& topology,
                         const SequenceReaderOptions& options) {
  if (files.empty()) throw Error(ErrorKind::kUsage, "no sequence files given");
  GenomeStore store;
  store.files = files;
  SequenceReader reader(files, options);
  SequenceRecord record;
  reserve_for(files, store.tokens);
  while (reader.next(record)) {
    const std::vector<Token> sequence = tokenize(record.bases, record.file, record.name);
    if (record.bases.capacity() > kLongRecord) std::string().swap(record.bases);
    make_room(store.tokens, sequence.size(), record.file);
    store.add(record.name, sequence, topology.is_circular(record));
    store.records.back().file = record.file_index;
  }
  return store;
}

std::vector<std::string> read_file_list(const std::string& path) {
  std::vector<std::string> files;
  LineReader lines(path);
  std::string line;
  while (lines.next(line)) {
    if (line.find_first_not_of(" \t") == std::string::npos || line[0] == '#') continue;
    if (access(line.c_str(), R_OK) != 0) {
      throw Error(ErrorKind::kInput, path + ": line " + std::to_string(lines.line_number()) +
                                         ": cannot open '" + line + "': " + std::strerror(errno));
    }
    files.push_back(line);
  }
  if (files.empty()) throw Error(ErrorKind::kInput, path + ": lists no file");
  return files;
}

}  // namespace m5
