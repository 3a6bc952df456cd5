// A pass in which something throws ends with that error: it neither hangs nor ends the process.
#include <gtest/gtest.h>

#include "m5/error.hpp"
#include "model_util.hpp"
#include "nn/pooling.hpp"
#include "tests/faults/idle_backend.hpp"
#include "tests/faults/injection.hpp"

namespace m5 {
namespace {

using faults::Call;
using faults::Injection;
using faults::Watchdog;

const IdleBackend* held_back = nullptr;  // whose workers go ahead before the allocation fails

// One context in more tiles than workers may be ahead; in inference short ones share a tile after
// it.
struct Batch {
  std::vector<Token> tokens = random_tokens(300, 1);
  std::vector<TokenView> views;
  Objective objective;
  Batch() {
    for (int i = 0; i < 12; ++i) views.push_back(view(tokens, i % 2 == 0));
    for (int i = 0; i < 8; ++i) views.push_back({tokens.data(), 5 + i, false, 1 + i});
    objective = some_objective(TestModel<float>::row_count(views));
  }
};

enum class Pass { kScore, kEmbed, kTrain };
constexpr Pass kPasses[] = {Pass::kScore, Pass::kEmbed, Pass::kTrain};

// Local convolutions before one layer, none before the other, and groups of layers in training.
struct Work {
  explicit Work(kernels::Backend<float>& backend, Pass p)
      : pass(p),
        encoder(backend,
                kernels::make_tiled_sweeps<float>(
                    backend, config,
                    {.training = p == Pass::kTrain, .bf16_residual = p == Pass::kEmbed}, 128)) {
    encoder.keep_every(2);
  }
  void operator()() {
    encoder.set_parameters(parameters.data());
    if (pass == Pass::kTrain) {
      encoder.loss_and_gradient(batch.views, batch.objective, 1, gradient.data());
    } else if (pass == Pass::kEmbed) {
      // The rows in their order, of which few may wait.
      for (auto& rows : in_order) rows = std::make_unique<RowOrder>(8, 512, no_rows);
      const int layers[] = {0, 3};
      encoder.hidden(
          batch.views, layers,
          [&](int layer, std::int64_t first, int n, const float* values) {
            in_order[layer == 3]->add(first, n, values);
          },
          [&] {
            for (const auto& rows : in_order) rows->give_up();
          });
    } else {
      encoder.log_probs(batch.views, batch.objective.rows, log_probs.data());
    }
  }

  inline static const ModelConfig config = tiny_config(8, 3, 2, {{3, 1}, {0, 1}, {3, 2}});
  inline static const Batch batch;
  inline static const std::int64_t total = ParameterTable(config).total;
  inline static const std::vector<float> parameters =
      std::vector<float>(static_cast<std::size_t>(total));
  const Pass pass;
  Encoder<float> encoder;
  static void no_rows(std::int64_t, int, const float*) {}
  std::unique_ptr<RowOrder> in_order[2];
  std::vector<double> gradient = std::vector<double>(static_cast<std::size_t>(total));
  std::vector<float> log_probs = std::vector<float>(4 * batch.objective.rows.size());
};

#if defined(__SANITIZE_THREAD__)
constexpr std::int64_t kStride = 5;  // minutes otherwise
#else
constexpr std::int64_t kStride = 1;
#endif

TEST(Faults, AnyOperationMayThrow) {
  const Watchdog watchdog;
  for (const Pass pass : kPasses) {
    for (int threads = 1; threads <= 4; ++threads) {
      IdleBackend backend(threads);
      Work work(backend, pass);
      work();  // which takes what lives as long as the encoder
      backend.fail_at(0);
      work();
      const std::int64_t calls = backend.calls();
      ASSERT_GT(calls, 300);
      // Every one where there is one thread, and a share of them where others must be waited for.
      for (std::int64_t n = 1; n <= calls; n += threads * kStride) {
        backend.fail_at(n);
        ASSERT_THROW(work(), Injected) << n << " of " << calls << ", threads: " << threads;
      }
      backend.fail_at(0);
      work();  // as if nothing had been
      EXPECT_EQ(backend.calls(), calls);
    }
  }
}

TEST(Faults, AnyAllocationMayFail) {
  const Watchdog watchdog;
  faults::before_failure = [] {
    if (held_back) held_back->let_others_go_ahead();
  };
  for (const Pass pass : kPasses) {
    for (int threads = 1; threads <= 4; ++threads) {
      bool failed = true;
      for (std::int64_t n = 1; failed; n += threads) {
        std::unique_ptr<IdleBackend> backend;
        Injection injection(Call::kNew, n);
        try {
          backend = std::make_unique<IdleBackend>(threads);
          held_back = backend.get();
          Work work(*backend, pass);
          work();
          failed = false;
        } catch (const std::bad_alloc&) {
        } catch (const Error& error) {
          injection.end();
          EXPECT_EQ(error.kind(), ErrorKind::kResource) << error.what();
        }
        injection.end();
        held_back = nullptr;
        ASSERT_EQ(failed, injection.calls() >= n) << n << ", threads: " << threads;
        ASSERT_TRUE(failed || n > 300) << n;
      }
    }
  }
  faults::before_failure = nullptr;
}

}  // namespace
}  // namespace m5
