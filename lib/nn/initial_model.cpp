#include <algorithm>

#include "base/memory.hpp"
#include "base/random.hpp"
#include "kernels/parameters.hpp"
#include "m5/model.hpp"

namespace m5 {

Model initial_model(const ModelConfig& config, std::uint64_t seed) {
  Model model;
  model.config = config;
  model.config.validate();
  const ParameterTable table(model.config);
  require_more_memory(static_cast<std::uint64_t>(table.total) * sizeof(float),
                      "model '" + model.config.name + "'");
  model.parameters.resize(static_cast<std::size_t>(table.total));
  for (const ParameterSpec& spec : table.specs) {
    for (std::int64_t i = spec.offset; i < spec.offset + spec.size; ++i) {
      // The random number belongs to the position in the slab, so that the result is a function of
      // (config, seed).
      model.parameters[static_cast<std::size_t>(i)] = static_cast<float>(
          spec.init_value + (spec.init_scale > 0
                                 ? spec.init_scale * normal(seed, static_cast<std::uint64_t>(i))
                                 : 0));
    }
  }
  return model;
}

Model with_memory(const Model& model, const MemoryConfig& memory, std::uint64_t seed) {
  ModelConfig config = model.config;
  config.validate();
  const ParameterTable before(config);
  before.check_count(model.parameters.size());
  config.memory = memory;
  Model result = initial_model(config, seed);  // the encoder's part is the same slab
  std::copy_n(model.parameters.begin(), before.encoder, result.parameters.begin());
  result.provenance = model.provenance;
  return result;
}

}  // namespace m5
