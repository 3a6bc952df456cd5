// Configurations of models: what is accepted is within its ranges, and written and read again the
// same.
#include "kernels/parameters.hpp"
#include "m5/config.hpp"
#include "tests/fuzz/fuzz_input.hpp"

using namespace m5;

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  set_log(0, "fuzz");
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  fuzz::refusal({ErrorKind::kModel}, "F", [&] {
    const ModelConfig config = ModelConfig::from_json(text, "F");
    FUZZ_REQUIRE(config.dim == config.heads * config.value_dim());
    FUZZ_REQUIRE(config.approximation_error() < 1);
    FUZZ_REQUIRE(config.features() > 0);
    FUZZ_REQUIRE(ParameterTable(config).total > 0);
    FUZZ_REQUIRE(ModelConfig::from_json(config.to_json(), "again") == config);
  });
  return 0;
}
