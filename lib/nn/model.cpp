#include "m5/model.hpp"

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>

#include "base/location.hpp"
#include "base/memory.hpp"
#include "io/json.hpp"
#include "io/safetensors.hpp"
#include "kernels/parameters.hpp"
#include "m5/error.hpp"

namespace m5 {
namespace {

std::string shape_text(const std::vector<std::int64_t>& shape) {
  std::string text = "[";
  for (std::int64_t extent : shape) {
    if (text.size() > 1) text += ", ";
    text += std::to_string(extent);
  }
  return text + "]";
}

[[noreturn]] void fail(const std::string& path, const std::string& what) {
  throw Error(ErrorKind::kModel, path + ": " + what);
}

void check_version(const SafetensorsFile& file) {
  const std::string& text = file.metadata_value("m5_format_version");
  int version = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), version);
  if (error != std::errc() || end != text.data() + text.size() || version < 1) {
    fail(file.path(), "m5_format_version '" + text.substr(0, 40) + "' is no version number");
  }
  if (version > kModelFormatVersion) {
    fail(file.path(), "model format version " + text + " is newer than " +
                          std::to_string(kModelFormatVersion) + ", which this m5 reads: update m5");
  }
}

// The provenance is for people: values are text, or anything else in JSON's own notation.
std::map<std::string, std::string> parse_provenance(const SafetensorsFile& file) {
  const std::string what = file.path() + ": m5_provenance";
  const auto json = parse_json(file.metadata_value("m5_provenance"), what);
  if (!json.is_object()) throw Error(ErrorKind::kModel, what + " is no JSON object");
  std::map<std::string, std::string> provenance;
  for (const auto& [key, value] : json.items()) {
    provenance[key] = value.is_string() ? value.get<std::string>() : value.dump();
  }
  return provenance;
}

bool readable(const std::string& path) { return access(path.c_str(), R_OK) == 0; }

}  // namespace

Model load_model(const std::string& path) {
  SafetensorsFile file(path);
  if (file.metadata().count("m5_config") == 0) {
    fail(path, "a safetensors file, but no m5 model: metadata 'm5_config' is missing");
  }
  // First, so that a newer format is named as such whatever else it changed.
  check_version(file);
  if (!file.has_digests()) {
    fail(path, std::string("metadata '") + kTensorDigestKey + "' or '" + kMetadataDigestKey +
                   "' is missing: the model cannot be checked for damage");
  }
  Model model;
  model.path = path;
  model.config = ModelConfig::from_json(file.metadata_value("m5_config"), path);
  model.provenance = parse_provenance(file);

  const ParameterTable table(model.config);
  std::map<std::string, std::int64_t> offsets;
  for (const ParameterSpec& spec : table.specs) {
    const Tensor& tensor = file.tensor(spec.name);
    if (tensor.dtype != DType::kF32) {
      fail(path, "tensor '" + spec.name + "': type " + dtype_name(tensor.dtype) + ", expected F32");
    }
    if (tensor.shape != spec.shape) {
      fail(path, "tensor '" + spec.name + "': shape " + shape_text(tensor.shape) + ", expected " +
                     shape_text(spec.shape));
    }
    offsets.emplace(spec.name, spec.offset);
  }
  for (const Tensor& tensor : file.tensors()) {
    if (!offsets.contains(tensor.name)) {
      fail(path, "tensor '" + tensor.name.substr(0, 200) + "' belongs to no m5 model");
    }
  }
  require_more_memory(static_cast<std::uint64_t>(table.total) * sizeof(float), path);
  model.parameters.resize(static_cast<std::size_t>(table.total));
  file.read([&](const Tensor& t) { return model.parameters.data() + offsets.at(t.name); });
  model.sha256 = file.sha256();
  for (const ParameterSpec& spec : table.specs) {
    const float* const values = model.parameters.data() + spec.offset;
    for (std::int64_t i = 0; i < spec.size; ++i) {
      if (!std::isfinite(values[i])) {
        fail(path, "tensor '" + spec.name + "': value " + std::to_string(i) + " is not finite");
      }
    }
  }
  return model;
}

void save_model(const Model& model, const std::string& path) {
  ModelConfig config = model.config;
  config.validate();
  const ParameterTable table(config);
  table.check_count(model.parameters.size());
  for (const ParameterSpec& spec : table.specs) {
    const float* const values = model.parameters.data() + spec.offset;
    if (!std::all_of(values, values + spec.size, [](float v) { return std::isfinite(v); })) {
      throw Error(ErrorKind::kNumeric, path + ": not written: tensor '" + spec.name +
                                           "' has a value that is not finite");
    }
  }
  std::vector<Tensor> tensors;
  for (const ParameterSpec& spec : table.specs) {
    tensors.push_back(make_tensor(spec.name, spec.shape, model.parameters.data() + spec.offset));
  }
  Metadata metadata;
  metadata["m5_format_version"] = std::to_string(config.format_version());
  metadata["m5_config"] = config.to_json();
  // Bytes of a path that are no UTF-8 are replaced, not refused: the training is done by now.
  std::string provenance = nlohmann::json(model.provenance)
                               .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  if (provenance.size() > kLongestJson || model.provenance.size() >= kMostJsonValues) {
    throw Error(ErrorKind::kUsage, path + ": the provenance of the model is too long: at most " +
                                       std::to_string(kLongestJson) + " bytes of JSON");
  }
  metadata["m5_provenance"] = std::move(provenance);
  write_safetensors(path, tensors, metadata);
}

std::string default_model_path() {
  if (const char* chosen = std::getenv("M5_MODEL"); chosen != nullptr && *chosen != '\0') {
    return chosen;
  }
  // As installed, of the library and of the program; then beside libm5.so in a build folder.
  std::string looked;
  for (const std::string& folder : own_folders()) {
    for (const char* share : {M5_SHARE_FROM_LIB, M5_SHARE_FROM_BIN, "share/m5"}) {
      std::string path = folder + "/" + share + "/models/m5-nano.safetensors";
      if (readable(path)) return path;
      looked += (looked.empty() ? "" : ", ") + path;
    }
  }
  throw Error(ErrorKind::kModel,
              "no model: give one with --model or M5_MODEL (looked for " + looked + ")");
}

}  // namespace m5
