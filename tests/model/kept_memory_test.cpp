// The cpu backend keeps the large memory of a pass for the next one, and does not clear it: no
// result depends on what was there.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "model_util.hpp"

namespace m5 {
namespace {

using Model = TestModel<float>;

struct Kind {
  const char* name;
  int dim = 16;
  bool training = false, bf16_residual = false;
  int keep_every = 1;
};

struct Result {
  std::vector<float> log_probs, hidden;
  std::vector<double> gradient;
  bool operator==(const Result&) const = default;
};

Result results(Model& model, const std::vector<TokenView>& batch, const Kind& kind,
               std::size_t parameters) {
  Result r;
  if (kind.training) {
    r.gradient.resize(parameters);
    model.encoder.loss_and_gradient(batch, some_objective(Model::row_count(batch)), 1e-3,
                                    r.gradient.data());
  } else {
    r.hidden = model.hidden(batch, 1);
    r.log_probs = model.log_probs(batch);
  }
  return r;
}

// `count` records of one length, each a context of its own.
struct Records {
  Records(int count, std::int64_t length, unsigned seed) {
    for (int i = 0; i < count; ++i) {
      tokens.push_back(random_tokens(length, seed + static_cast<unsigned>(i)));
    }
    for (const auto& t : tokens) views.push_back(view(t, length > 1000, std::ssize(views)));
  }
  std::vector<std::vector<Token>> tokens;
  std::vector<TokenView> views;
};

// Batches of many sizes in one session, each after a pass of not-a-numbers that has left these in
// all its memory.
TEST(KeptMemory, ChangesNoResult) {
  // x, the states of many contexts, and what the convolution keeps of many records: all are large.
  const Records one(1, 67'000, 1), many(2950, 23, 2), two(2, 34'000, 3000);
  const Kind kinds[] = {{.name = "inference"},
                        {.name = "bf16 residual", .dim = 32, .bf16_residual = true},
                        {.name = "training", .training = true, .keep_every = 2}};
  for (const Kind& kind : kinds) {
    const ModelConfig config = tiny_config(kind.dim, 2, 2, {{3, 20}, {0, 1}});
    const std::vector<double> parameters = random_parameters(config, 3);
    const std::vector<double> none(parameters.size(), std::numeric_limits<double>::quiet_NaN());
    const auto make = [&] {
      return Model(config, parameters, kernels::make_cpu_backend({.threads = 2}), kind.training, 0,
                   kind.bf16_residual);
    };
    Model used = make();
    used.encoder.keep_every(kind.keep_every);
    for (const Records* records : {&one, &many, &two}) {
      const std::vector<TokenView>& batch = records->views;
      const std::string at =
          std::string(kind.name) + ", " + std::to_string(batch.size()) + " records";
      used.set(none);
      results(used, batch, kind, parameters.size());
      // They are in what the next pass has its x in.
      const std::size_t value = kind.bf16_residual ? sizeof(std::uint16_t) : sizeof(float);
      void* const x = used.backend->allocate(
          static_cast<std::size_t>(Model::row_count(batch) * config.dim) * value);
      EXPECT_TRUE(std::isnan(*static_cast<const float*>(x))) << at;
      used.backend->release(x);
      used.set(parameters);
      Model fresh = make();
      EXPECT_TRUE(results(used, batch, kind, parameters.size()) ==
                  results(fresh, batch, kind, parameters.size()))
          << at;
    }
  }
}

}  // namespace
}  // namespace m5
