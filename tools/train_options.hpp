// The command line of m5 train.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tools/options.hpp"
#include "train/settings.hpp"

namespace m5 {

struct TrainOptions {
  CommonOptions common;
  std::vector<std::string> files, validation_files;
  std::string list, preset, config, init, log, checkpoint;
  std::vector<std::int64_t> segment_lengths{4096}, steps, batch_tokens{16384};
  std::string learn = "all", mask_shares, optimizer = "adamw", schedule = "cosine";
  std::int64_t validate_every = 500, validation_tokens = 262144, checkpoint_every = 500;
  bool resume = false;
  TrainSettings settings;
};

void add_train_options(CLI::App& app, TrainOptions& options);
// Fills in what follows from other options. Throws Error(kUsage).
void check_train_options(TrainOptions& options);

}  // namespace m5
