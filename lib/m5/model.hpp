// A model: config, parameters, provenance. One .safetensors file (man 5 m5-model).
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "m5/config.hpp"
#include "m5/export.hpp"

namespace m5 {

struct Model {
  ModelConfig config;
  std::vector<float> parameters;                  // one slab; layout: ParameterTable(config)
  std::map<std::string, std::string> provenance;  // free text about the training, kept on save
  std::string sha256;  // of the file it was read from, hex; empty if fresh
  std::string path;
};

// Fresh parameters: a function of (config, seed) alone. Throws Error(kModel) as
// ModelConfig::validate does, and Error(kResource) where there is no memory for them.
M5_API Model initial_model(const ModelConfig& config, std::uint64_t seed);

// The same model with another genome memory, or none (memory without orders). New mixing weights
// are a function of (config, seed) and change no score until they are trained. Throws as
// initial_model, and Error(kUsage) for another number of parameters than the model's config has.
M5_API Model with_memory(const Model& model, const MemoryConfig& memory, std::uint64_t seed);

// Throws Error(kModel) with the path, and the tensor where one is at fault; nothing in the file is
// trusted: sizes are checked before memory is taken, and non-finite weights are refused.
M5_API Model load_model(const std::string& path);

// Written whole or not at all. Throws Error(kIo); before anything is written Error(kModel) for a
// config that does not validate, Error(kUsage) for another number of parameters than it has, and
// Error(kNumeric) for one that is not finite: nothing is saved that load_model refuses.
M5_API void save_model(const Model& model, const std::string& path);

// The path of the bundled model: $M5_MODEL, else share/m5/models/m5-nano.safetensors of the
// installation (or build folder) that libm5.so, or the running program, lies in now. Throws
// Error(kModel) saying where it looked.
M5_API std::string default_model_path();

}  // namespace m5
