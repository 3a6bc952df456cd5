// Genomes in memory: all records of all files, one byte per nt.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "io/sequence_reader.hpp"
#include "io/topology.hpp"
#include "m5/tokens.hpp"

namespace m5 {

struct GenomeRecord {
  std::string name;
  std::int64_t file = 0;    // index into GenomeStore::files
  std::int64_t offset = 0;  // first nt in GenomeStore::tokens
  std::int64_t length = 0;  // nt, >= 1
  bool circular = false;
};

struct GenomeStore {
  std::vector<std::string> files;
  std::vector<GenomeRecord> records;
  std::vector<Token> tokens;  // of all records, one after the other

  std::int64_t total() const { return static_cast<std::int64_t>(tokens.size()); }
  bool has_bases() const { return std::any_of(tokens.begin(), tokens.end(), is_base); }
  const Token* begin_of(const GenomeRecord& record) const { return tokens.data() + record.offset; }
  // The record that holds nt `position` of the store.
  std::int64_t record_at(std::int64_t position) const;
  // Appends one record of the file added last (or a first, nameless one).
  void add(const std::string& name, std::span<const Token> sequence, bool circular);
  // SHA-256, hex, over length, circular flag and tokens of every record, in order. Two stores with
  // the same digest give the same windows.
  std::string digest() const;
};

// Reads all records of all files (as SequenceReader; "-" is standard input), in the order given.
// Throws Error(kUsage) without files; Error(kInput) or Error(kIo) naming the file.
GenomeStore load_genomes(const std::vector<std::string>& files, const Topology& topology,
                         const SequenceReaderOptions& options);

// One path a line; blank lines and lines that start with '#' are skipped, a final CR is dropped.
// Throws Error(kIo) when the list cannot be read, Error(kInput) naming the line of a path that
// cannot be opened or when the list is empty.
std::vector<std::string> read_file_list(const std::string& path);

}  // namespace m5
