// Writes a small model with random weights, for the tests of the command line.
//   make_tiny_model FILE [SCALE_OF_THE_WEIGHTS]
#include <cstdio>
#include <cstdlib>
#include <exception>

#include "m5/model.hpp"

int main(int argc, char** argv) {
  if (argc < 2 || argc > 3) {
    std::fprintf(stderr, "usage: make_tiny_model FILE [SCALE]\n");
    return 2;
  }
  try {
    m5::ModelConfig config;
    config.name = "tiny";
    config.dim = 16;
    config.layers = 2;
    config.heads = 8;
    config.ff_dim = 64;
    config.order = 2;
    config.bound = 1.0;
    config.window = 5;
    config.local_conv = {{3, 1}, {0, 1}};
    config.validate();
    m5::Model model = m5::initial_model(config, 1);
    // Larger weights than training starts from, so that scores differ from base to base.
    const float scale = argc == 3 ? std::strtof(argv[2], nullptr) : 2.0f;
    for (float& value : model.parameters) value *= scale;
    m5::save_model(model, argv[1]);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "make_tiny_model: %s\n", error.what());
    return 1;
  }
  return 0;
}
