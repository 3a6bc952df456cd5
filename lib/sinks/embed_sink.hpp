// Where embeddings go: one class per format, made by make_embed_sink.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/output.hpp"

namespace m5 {

struct EmbedSinkOptions {
  std::string path = "-";
  int dim = 0;                       // values a row, of each layer
  std::vector<std::int64_t> layers;  // several; none: there is one, which needs no name
  bool float16 = false;              // rounded to nearest even; else float32
  std::vector<std::string> header;   // provenance lines, each with its leading #
  std::vector<std::string> files;    // of the input, as given
  std::string index;                 // of tsv: "tbi" or "csi" (tabix.hpp), empty: none

  int width() const {  // values a row
    return dim * static_cast<int>(std::max<std::size_t>(1, layers.size()));
  }
};

// What a row of the result stands for.
struct EmbedRow {
  std::string name;                 // of the record, the feature or the file
  std::string sequence;             // name of the record; "." of a file
  std::int64_t begin = 0, end = 0;  // 0-based, half open
  char strand = '.';
  std::int64_t bases = 0;  // A, C, G, T among them
  std::int64_t file = 0;   // index into EmbedSinkOptions::files
};

class EmbedSink {
 public:
  virtual ~EmbedSink() = default;
  // values: [layers][dim]. Throws Error(kIo), Error(kNumeric) for a value float16 cannot hold, and,
  // with an index, Error(kInput) for a row that is not behind the one before.
  virtual void add(const EmbedRow& row, const float* values) = 0;
  // After this the file, and its companion if it has one, are whole and in place.
  void commit() { commit_all(finish()); }

 private:
  // Writes what is left. The files that want their names.
  virtual std::vector<OutputFile*> finish() = 0;
};

// format: "npy" (with <path>.tsv beside it), "npz" or "tsv"; Error(kUsage) otherwise. Rows stream
// to regular files; npy and npz to a pipe are held in memory, since their counts come first.
std::unique_ptr<EmbedSink> make_embed_sink(const std::string& format,
                                           const EmbedSinkOptions& options);
// The format a file name asks for by suffix: "npy", "npz", "tsv" (also before that of BGZF); of a
// stream whose name says nothing "tsv". Error(kUsage) for any other.
std::string embed_format_of(const std::string& path);

// Bytes a sink keeps of every row until commit, names of features left out.
std::uint64_t embed_row_memory(const std::string& format, const EmbedSinkOptions& options);

}  // namespace m5
