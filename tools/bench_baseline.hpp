// The k-mer baseline of `m5 bench loss`: counted on training files, or read from a cache.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "data/kmer_baseline.hpp"
#include "tools/options.hpp"

namespace m5 {

struct BaselineOptions {
  std::vector<std::string> files;  // --baseline-train
  std::string list;                // --baseline-list
  std::string cache;               // --baseline-cache
};

// --baseline-train and what --baseline-list names. Throws Error(kInput) or Error(kIo).
std::vector<std::string> baseline_files(const BaselineOptions& options);

// Bytes of the table that load_baseline() makes of these; 0: it makes none.
std::uint64_t baseline_memory(const BaselineOptions& options);

// None without training files and cache. Warns when one of the files that are evaluated was trained
// on. Throws Error(kInput) or Error(kIo) naming the file; a cache that cannot be used is counted
// anew where there are training files, and Error(kInput) where there are none.
std::optional<KmerBaseline> load_baseline(const BaselineOptions& options,
                                          const CommonOptions& common,
                                          const std::vector<std::string>& evaluated);

}  // namespace m5
