#include "m5/config.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "io/json.hpp"
#include "kernels/math/minimax.hpp"
#include "m5/error.hpp"

namespace m5 {
namespace {

using Json = nlohmann::ordered_json;

[[noreturn]] void refuse(const std::string& message) { throw Error(ErrorKind::kModel, message); }

template <class Number>
std::string text(Number value) {
  return Json(value).dump();
}

template <class Number>
void check_range(const char* field, Number value, Number low, Number high) {
  if (!(value >= low && value <= high)) {  // written so that NaN fails
    refuse(std::string("config: ") + field + " is " + text(value) + "; allowed are " + text(low) +
           " to " + text(high));
  }
}

[[noreturn]] void misuse(const std::string& what) {
  throw Error(ErrorKind::kUsage, "ModelConfig::" + what + "; validate() says what is allowed");
}

// Reads the fields of one JSON object and knows which of them were asked for.
class Fields {
 public:
  Fields(const Json& object, std::string where) : object_(object), where_(std::move(where)) {
    if (!object.is_object()) refuse(where_ + " is not a JSON object");
  }

  bool has(const char* key) {
    asked_.insert(key);
    return object_.contains(key);
  }

  const Json& get(const char* key) {
    if (!has(key)) refuse(where_ + ": '" + key + "' is missing");
    return object_.at(key);
  }

  int integer(const char* key) {
    const Json& value = get(key);
    if (!value.is_number_integer()) refuse(where_ + ": '" + key + "' is not an integer");
    // An unsigned value past the range of int64 comes out negative or huge: both are refused.
    const bool huge = value.is_number_unsigned() &&
                      value.get<std::uint64_t>() > std::uint64_t{std::numeric_limits<int>::max()};
    const auto number = huge ? std::int64_t{-1} : value.get<std::int64_t>();
    if (huge || number < std::numeric_limits<int>::min()) {
      refuse(where_ + ": '" + key + "' is " + value.dump() + ", out of any range");
    }
    return static_cast<int>(number);
  }

  double number(const char* key) {
    const Json& value = get(key);
    if (!value.is_number()) refuse(where_ + ": '" + key + "' is not a number");
    return value.get<double>();
  }

  const Json& array(const char* key) {
    const Json& value = get(key);
    if (!value.is_array()) refuse(where_ + ": '" + key + "' is not an array");
    return value;
  }

  void finish() const {
    for (const auto& [key, value] : object_.items()) {
      if (!asked_.contains(key)) refuse(where_ + ": unknown key " + Json(key).dump());
    }
  }

 private:
  const Json& object_;
  const std::string where_;
  std::set<std::string> asked_;
};

MemoryConfig read_memory(Fields& config, const std::string& origin) {
  const std::string where = origin + ": config: memory";
  Fields fields(config.get("memory"), where);
  MemoryConfig memory;
  memory.hidden = fields.integer("hidden");
  const Json& orders = fields.array("orders");
  if (orders.empty()) refuse(where + ": 'orders' is empty");
  for (const Json& entry : orders) {
    const auto is_side = [](const Json& side) {
      return side.is_number_unsigned() && side.get<std::uint64_t>() < 64;
    };
    if (!entry.is_array() || entry.size() != 2 || !is_side(entry[0]) || !is_side(entry[1])) {
      refuse(where + ": an order is " + entry.dump().substr(0, 60) +
             "; it must be two whole numbers, neighbours before and after a base");
    }
    memory.orders.push_back({entry[0].get<int>(), entry[1].get<int>()});
  }
  fields.finish();
  return memory;
}

void check_memory(const MemoryConfig& memory) {
  if (memory.empty()) return;
  check_range("memory orders", memory.orders.size(), std::size_t{1},
              std::size_t{kMostMemoryOrders});
  check_range("memory hidden", memory.hidden, 8, 1024);
  if (memory.hidden % 8 != 0) {
    refuse("config: memory hidden is " + text(memory.hidden) + "; it must be a multiple of 8");
  }
  for (const MemoryOrder& order : memory.orders) {
    check_range("memory order", order.left, 0, 31);
    check_range("memory order", order.right, 0, 31);
    check_range("sum of a memory order", order.left + order.right, 1, 31);
    if (std::count(memory.orders.begin(), memory.orders.end(), order) != 1) {
      refuse("config: memory order [" + text(order.left) + ", " + text(order.right) +
             "] is there twice");
    }
    const MemoryOrder mirrored{order.right, order.left};
    if (std::find(memory.orders.begin(), memory.orders.end(), mirrored) == memory.orders.end()) {
      refuse("config: memory order [" + text(order.left) + ", " + text(order.right) +
             "] is there without [" + text(order.right) + ", " + text(order.left) + "]");
    }
  }
}

}  // namespace

MemoryConfig MemoryConfig::standard() {
  MemoryConfig memory;
  for (int k = 1; k <= 6; ++k) memory.orders.push_back({k, k});
  for (const auto& [left, right] : {MemoryOrder{1, 5}, {2, 6}, {3, 8}, {0, 11}, {0, 14}, {0, 18}}) {
    memory.orders.push_back({left, right});
    memory.orders.push_back({right, left});
  }
  return memory;
}

double ModelConfig::approximation_error() const {
  if (coefficients.empty() || !(bound > 0)) misuse("approximation_error: no coefficients or bound");
  return kernels::relative_error_to_exp(coefficients, bound);
}

double ModelConfig::attention_error_bound() const {
  const double error = approximation_error();
  return error < 1 ? 2 * error / (1 - error) : std::numeric_limits<double>::infinity();
}

void ModelConfig::validate() {
  const bool printable =
      std::all_of(name.begin(), name.end(), [](char c) { return c >= ' ' && c <= '~'; });
  if (name.empty() || name.size() > 128 || !printable) {
    refuse("config: name must be 1 to 128 printable ASCII characters");
  }
  check_range("dim", dim, 8, 8192);
  check_range("layers", layers, 1, 256);
  check_range("heads", heads, 8, 8192);
  if (heads % 8 != 0) refuse("config: heads is " + text(heads) + "; it must be a multiple of 8");
  if (dim % heads != 0) {
    refuse("config: dim is " + text(dim) + "; it must be a multiple of heads, " + text(heads));
  }
  check_range("dim / heads", value_dim(), 1, 32);
  check_range("ff_dim", ff_dim, 8, 65536);
  if (ff_dim % 8 != 0) {  // the kernels take rows in whole vectors
    refuse("config: ff_dim is " + text(ff_dim) + "; it must be a multiple of 8");
  }
  check_range("order", order, 2, 8);
  if (order % 2 != 0) refuse("config: order is " + text(order) + "; it must be 2, 4, 6 or 8");
  check_range("bound", bound, 1e-3, 8.0);
  check_range("window", window, 0, 512);
  check_range("norm_epsilon", norm_epsilon, 1e-12, 1.0);

  if (!local_conv.empty() && local_conv.size() != static_cast<std::size_t>(layers)) {
    refuse("config: local_conv has " + text(local_conv.size()) +
           " entries; it must be empty or one per layer, " + text(layers));
  }
  for (const LocalConv& conv : local_conv) {
    check_range("local_conv width", conv.width, 0, 63);
    if (conv.width != 0 && conv.width % 2 == 0) {
      refuse("config: local_conv width is " + text(conv.width) + "; it must be odd, or 0 for none");
    }
    check_range("local_conv dilation", conv.dilation, 1, 256);
  }

  check_memory(memory);
  if (coefficients.empty()) coefficients = kernels::minimax_exp(order, bound);
  if (coefficients.size() != static_cast<std::size_t>(order) + 1) {
    refuse("config: " + text(coefficients.size()) + " coefficients; order " + text(order) +
           " needs " + text(order + 1));
  }
  for (double c : coefficients) {
    if (!(std::isfinite(c) && c > 0)) {
      refuse("config: a coefficient is " + text(c) + "; all must be finite and above 0");
    }
  }
  // Below 1 every attention weight is positive, so no row is ever divided by zero.
  const double error = approximation_error();
  if (!(error < 1)) {
    refuse("config: the coefficients miss exp by a relative error of " + text(error) +
           " on the bound " + text(bound) + "; it must be below 1");
  }
  // And stays so in fp32: the least weight, (1 - error) exp(-R), is a sum of terms as large as the
  // greatest, (1 + error) exp(R), and must stand out from their rounding.
  if ((1 + error) / (1 - error) * std::exp(2 * bound) * 0x1p-24 > 0x1p-6) {
    refuse("config: bound is " + text(bound) + "; with order " + text(order) +
           " the least attention weights drown in the rounding of fp32: choose a smaller bound" +
           (order < 8 ? " or a higher order" : ""));
  }
}

std::string ModelConfig::to_json() const {
  Json json;
  json["format_version"] = format_version();
  json["name"] = name;
  json["dim"] = dim;
  json["layers"] = layers;
  json["heads"] = heads;
  json["ff_dim"] = ff_dim;
  json["order"] = order;
  json["bound"] = bound;
  json["window"] = window;
  json["norm_epsilon"] = norm_epsilon;
  json["local_conv"] = Json::array();
  for (const LocalConv& conv : local_conv) {
    json["local_conv"].push_back(Json{{"width", conv.width}, {"dilation", conv.dilation}});
  }
  json["coefficients"] = coefficients;
  if (!memory.empty()) {
    Json orders = Json::array();
    for (const MemoryOrder& o : memory.orders) orders.push_back(Json::array({o.left, o.right}));
    json["memory"] = Json{{"orders", std::move(orders)}, {"hidden", memory.hidden}};
  }
  // A name that was not validated may be no UTF-8.
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

ModelConfig ModelConfig::from_json(const std::string& text, const std::string& origin) {
  const Json json = parse_json(text, origin + ": config");
  Fields fields(json, origin + ": config");
  const int version = fields.integer("format_version");
  if (version > kModelFormatVersion) {
    refuse(origin + ": format version " + std::to_string(version) +
           " is newer than this m5 reads (version " + std::to_string(kModelFormatVersion) +
           "); use a newer m5");
  }
  if (version < 1) refuse(origin + ": config: format_version " + std::to_string(version));

  ModelConfig config;
  if (fields.has("name")) {
    const Json& name = fields.get("name");
    if (!name.is_string()) refuse(origin + ": config: 'name' is not a string");
    config.name = name.get<std::string>();
  }
  config.dim = fields.integer("dim");
  config.layers = fields.integer("layers");
  config.heads = fields.integer("heads");
  config.ff_dim = fields.integer("ff_dim");
  config.order = fields.integer("order");
  config.bound = fields.number("bound");
  config.window = fields.integer("window");
  config.norm_epsilon = fields.number("norm_epsilon");
  if (fields.has("local_conv")) {
    for (const Json& entry : fields.array("local_conv")) {
      Fields conv(entry, origin + ": config: local_conv entry");
      config.local_conv.push_back({conv.integer("width"), conv.integer("dilation")});
      conv.finish();
    }
  }
  if (fields.has("coefficients")) {
    for (const Json& c : fields.array("coefficients")) {
      if (!c.is_number()) refuse(origin + ": config: a coefficient is not a number");
      config.coefficients.push_back(c.get<double>());
    }
  }
  if (version >= 2 && fields.has("memory")) config.memory = read_memory(fields, origin);
  fields.finish();
  try {
    config.validate();
  } catch (const Error& e) {
    throw Error(e.kind(), origin + ": " + e.what());
  }
  return config;
}

ModelConfig ModelConfig::preset(const std::string& name) {
  ModelConfig config;
  config.name = name;
  if (name == "nano" || name == "nano-conv") {
    config.dim = 128, config.layers = 4, config.heads = 16, config.order = 4;
  } else if (name == "small") {
    config.dim = 256, config.layers = 8, config.heads = 32, config.order = 6;
  } else if (name == "base") {
    config.dim = 512, config.layers = 12, config.heads = 64, config.order = 6;
  } else {
    std::string known;
    for (const std::string& preset : preset_names()) known += (known.empty() ? "" : ", ") + preset;
    throw Error(ErrorKind::kUsage, "unknown preset '" + name + "'; known are " + known);
  }
  if (name == "nano-conv") config.local_conv = {{9, 1}, {9, 3}, {9, 9}, {9, 27}};
  config.ff_dim = 4 * config.dim;
  config.bound = 2;
  config.window = 15;
  config.validate();
  return config;
}

std::vector<std::string> ModelConfig::preset_names() {
  return {"nano", "nano-conv", "small", "base"};
}

}  // namespace m5
