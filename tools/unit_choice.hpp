// What m5 embed and m5 score make rows of, and the options that choose it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "io/features.hpp"
#include "tools/options.hpp"

namespace m5 {

struct UnitChoice {
  std::string per = "record";  // "window", "feature", and what else the command has
  std::int64_t window = 1000;  // nt
  std::int64_t step = 0;       // nt from one window to the next
  std::string features;        // file
  FeatureOptions feature_options;
};

// --window, --step, --features, --feature-type, --feature-name.
void add_unit_options(CLI::App& app, UnitChoice& choice);
// Contradictions between them and --per: Error(kUsage). Puts in what follows from other options.
void check_unit_options(const CLI::App& app, const CommonOptions& common, UnitChoice& choice);
// What provenance says of them, such as "per=window window=1000 step=1000".
std::string unit_settings(const UnitChoice& choice);

}  // namespace m5
