#include "data/genome_store.hpp"

#include <algorithm>

#include <unistd.h>

#include <cerrno>
#include <cstring>

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

GenomeStore load_genomes(const std::vector<std::string>& files, Topology topology,
                         const SequenceReaderOptions& options) {
  if (files.empty()) throw Error(ErrorKind::kUsage, "no sequence files given");
  GenomeStore store;
  store.files = files;
  SequenceReader reader(files, options);
  SequenceRecord record;
  while (reader.next(record)) {
    const std::vector<Token> sequence = tokenize(record.bases, record.file, record.name);
    const bool circular =
        topology == Topology::kFromHeader ? record.circular : topology == Topology::kCircular;
    store.add(record.name, sequence, circular);
    store.records.back().file = record.file_index;
  }
  store.tokens.shrink_to_fit();
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
