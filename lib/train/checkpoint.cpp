#include "train/checkpoint.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <utility>

#include "io/json.hpp"
#include "io/safetensors.hpp"
#include "m5/error.hpp"

namespace m5 {
namespace {

constexpr const char* kFormatKey = "m5_checkpoint_format";
constexpr const char* kFormat = "1";
constexpr const char* kSettingsKey = "m5_train_settings";
constexpr const char* kParameters = "parameters";
constexpr const char* kFirstMoment = "adam.first_moment";
constexpr const char* kSecondMoment = "adam.second_moment";
constexpr const char* kAverage = "average";

std::int64_t count_of(const SafetensorsFile& file, const char* key) {
  const std::string& text = file.metadata_value(key);
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 0) {
    throw Error(ErrorKind::kModel, file.path() + ": '" + key + "' is no count: '" + text + "'");
  }
  return value;
}

SettingTexts saved_settings(const SafetensorsFile& file) {
  SettingTexts settings;
  const auto json = parse_json(file.metadata_value(kSettingsKey), file.path() + ": settings");
  if (!json.is_object()) {
    throw Error(ErrorKind::kModel, file.path() + ": the training settings are no JSON object");
  }
  for (const auto& [key, value] : json.items()) {
    if (!value.is_string()) {
      throw Error(ErrorKind::kModel, file.path() + ": training setting '" + key + "' is no text");
    }
    settings[key] = value.get<std::string>();
  }
  return settings;
}

// Steps of the stages, as setting_texts writes them: the same, but for a longer last stage.
bool extends(const std::string& before, const std::string& after) {
  const auto last = [](const std::string& text) {
    const std::size_t at = text.rfind(',') + 1;  // 0 without a comma
    std::int64_t steps = 0;
    std::from_chars(text.data() + at, text.data() + text.size(), steps);
    return std::pair(text.substr(0, at), steps);
  };
  const auto [stages, steps] = last(before);
  const auto [stages_now, steps_now] = last(after);
  return stages == stages_now && steps < steps_now;
}

void require_same(const std::string& path, const SettingTexts& saved, const SettingTexts& now) {
  static const std::string kAbsent = "(absent)";
  SettingTexts all = saved;
  all.insert(now.begin(), now.end());
  for (const auto& entry : all) {
    const std::string& key = entry.first;
    const auto old = saved.find(key);
    const auto current = now.find(key);
    const std::string& before = old == saved.end() ? kAbsent : old->second;
    const std::string& after = current == now.end() ? kAbsent : current->second;
    if (before == after) continue;
    if (key == "steps" && extends(before, after)) continue;
    const std::string who = path + ": --resume needs the settings of the interrupted run: ";
    if (key == "training-data")
      throw Error(ErrorKind::kUsage, who + "the training sequences differ");
    if (key == "config") {
      throw Error(ErrorKind::kUsage, who + "the model configuration (--preset, --config) differs");
    }
    throw Error(ErrorKind::kUsage, who + "--" + key + " was " + before + ", now " + after +
                                       (key == "steps" ? "; the last stage may grow only" : ""));
  }
}

}  // namespace

void save_checkpoint(const std::string& path, const TrainState& state,
                     const SettingTexts& settings) {
  const std::vector<std::int64_t> shape{static_cast<std::int64_t>(state.parameters.size())};
  std::vector<Tensor> tensors{make_tensor(kParameters, shape, state.parameters.data()),
                              make_tensor(kFirstMoment, shape, state.first_moment.data()),
                              make_tensor(kSecondMoment, shape, state.second_moment.data())};
  if (!state.average.empty()) {
    tensors.push_back(make_tensor(kAverage, shape, state.average.data()));
  }
  const Metadata metadata{{kFormatKey, kFormat},
                          {kSettingsKey, nlohmann::json(settings).dump()},
                          {"step", std::to_string(state.step)},
                          {"tokens", std::to_string(state.tokens)}};
  write_safetensors(path, tensors, metadata);
}

TrainState load_checkpoint(const std::string& path, std::int64_t parameters,
                           const SettingTexts& settings) {
  SafetensorsFile file(path);
  if (!file.metadata().count(kFormatKey) || !file.has_digests()) {
    throw Error(ErrorKind::kModel, path + ": not a checkpoint of m5 train");
  }
  if (file.metadata_value(kFormatKey) != kFormat) {
    throw Error(ErrorKind::kModel, path + ": checkpoint format " + file.metadata_value(kFormatKey) +
                                       ", this m5 reads format " + kFormat);
  }
  require_same(path, saved_settings(file), settings);
  TrainState state;
  state.step = count_of(file, "step");
  state.tokens = count_of(file, "tokens");
  std::map<std::string, std::vector<float>*> slabs{{kParameters, &state.parameters},
                                                   {kFirstMoment, &state.first_moment},
                                                   {kSecondMoment, &state.second_moment}};
  if (const auto ema = settings.find("ema"); ema != settings.end() && ema->second != "0") {
    slabs[kAverage] = &state.average;
  }
  for (const Tensor& tensor : file.tensors()) {  // sizes are checked before memory is taken
    if (!slabs.contains(tensor.name) || tensor.dtype != DType::kF32 ||
        tensor.shape != std::vector<std::int64_t>{parameters}) {
      throw Error(ErrorKind::kModel, path + ": tensor '" + tensor.name.substr(0, 200) +
                                         "' is not of this run: it needs " +
                                         std::to_string(parameters) + " parameters");
    }
  }
  for (const auto& [name, slab] : slabs) {
    file.tensor(name);  // or an error
    slab->resize(static_cast<std::size_t>(parameters));
  }
  file.read([&](const Tensor& tensor) { return slabs.at(tensor.name)->data(); });
  for (const auto& [name, slab] : slabs) {
    if (!std::all_of(slab->begin(), slab->end(), [](float v) { return std::isfinite(v); })) {
      throw Error(ErrorKind::kModel, path + ": tensor '" + name + "' has a non-finite value");
    }
  }
  return state;
}

}  // namespace m5
