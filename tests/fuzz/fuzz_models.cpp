// Models and checkpoints behind their digests: texts of the metadata and weights come from the
// input, the digests are right. Parts of the input end in byte 0xff, which no text of a model may
// hold.
#include <bit>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <vector>

#include "io/safetensors.hpp"
#include "kernels/parameters.hpp"
#include "m5/model.hpp"
#include "tests/fuzz/fuzz_input.hpp"
#include "train/checkpoint.hpp"

using namespace m5;

namespace {

std::string folder;

std::vector<std::string> parts_of(std::string_view bytes) {
  std::vector<std::string> parts;
  while (!bytes.empty()) {
    const std::size_t end = std::min(bytes.find('\xff'), bytes.size());
    parts.emplace_back(bytes.substr(0, end));
    bytes.remove_prefix(std::min(end + 1, bytes.size()));
  }
  parts.resize(7);
  return parts;
}

// As many values as asked for, from bytes of the input.
std::vector<float> values_of(const std::string& bytes, std::size_t size) {
  std::vector<float> values(size, 0.5F);
  if (!bytes.empty()) std::memcpy(values.data(), bytes.data(), std::min(bytes.size(), size * 4));
  return values;
}

void check_model(const std::vector<std::string>& parts) {
  const std::string path = folder + "/model";
  ModelConfig config;
  config.dim = config.heads = config.ff_dim = 8;
  config.layers = 1;
  config.order = 2;
  config.window = 0;
  try {
    config = ModelConfig::from_json(parts[0], "F");
  } catch (const Error&) {
  }
  const ParameterTable table(config);
  if (table.total > 100'000) return;
  const std::vector<float> values = values_of(parts[6], static_cast<std::size_t>(table.total));
  std::vector<Tensor> tensors;
  for (const ParameterSpec& spec : table.specs) {
    tensors.push_back(make_tensor(spec.name, spec.shape, values.data() + spec.offset));
  }
  const Metadata metadata{
      {"m5_config", parts[0]}, {"m5_provenance", parts[1]}, {"m5_format_version", parts[2]}};
  if (!fuzz::refusal({ErrorKind::kInternal}, path,
                     [&] {  // no UTF-8
                       write_safetensors(path, tensors, metadata);
                     })
           .empty()) {
    return;
  }
  fuzz::refusal({ErrorKind::kModel}, path, [&] {
    const Model model = load_model(path);
    FUZZ_REQUIRE(model.config == config);
    for (const float value : model.parameters) FUZZ_REQUIRE(std::isfinite(value));
    save_model(model, path + "2");
    const Model again = load_model(path + "2");
    FUZZ_REQUIRE(again.config == model.config && again.provenance == model.provenance);
    FUZZ_REQUIRE(std::memcmp(again.parameters.data(), model.parameters.data(),
                             model.parameters.size() * 4) == 0);
  });
}

void check_checkpoint(const std::vector<std::string>& parts) {
  const std::string path = folder + "/checkpoint";
  const std::vector<float> values = values_of(parts[6], 6);
  const Tensor tensors[] = {make_tensor("parameters", {2}, values.data()),
                            make_tensor("adam.first_moment", {2}, values.data() + 2),
                            make_tensor("adam.second_moment", {2}, values.data() + 4)};
  const Metadata metadata{{"m5_checkpoint_format", parts[2]},
                          {"m5_train_settings", parts[3]},
                          {"step", parts[4]},
                          {"tokens", parts[5]}};
  if (!fuzz::refusal({ErrorKind::kInternal}, path, [&] {
         write_safetensors(path, tensors, metadata);
       }).empty()) {
    return;
  }
  fuzz::refusal({ErrorKind::kModel, ErrorKind::kUsage}, path, [&] {
    const TrainState state = load_checkpoint(path, 2, {{"steps", "1"}});
    FUZZ_REQUIRE(state.step >= 0 && state.tokens >= 0);
    FUZZ_REQUIRE(state.parameters.size() == 2 && state.second_moment.size() == 2);
  });
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  set_log(0, "fuzz");
  std::string pattern = (std::filesystem::temp_directory_path() / "m5-fuzz-XXXXXX").string();
  folder = mkdtemp(pattern.data());
  std::atexit([] { std::filesystem::remove_all(folder); });
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto parts = parts_of({reinterpret_cast<const char*>(data), size});
  check_model(parts);
  check_checkpoint(parts);
  return 0;
}
