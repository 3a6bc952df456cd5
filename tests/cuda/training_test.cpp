// Training with the update of the parameters on the CUDA device (kernels/cuda/emulation) beside the
// same training, the same sweeps, with the update on the host.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "kernels/cuda/sweeps.hpp"
#include "kernels/devices.hpp"
#include "tests/unit/temp_dir.hpp"
#include "tests/unit/tiny_training.hpp"
#include "train/checkpoint.hpp"
#include "train/trainer.hpp"
#include "train/training.hpp"

namespace m5 {
namespace {

using kernels::SweepOptions;
using kernels::Sweeps;
using test::tiny_config;
using test::tiny_store;

constexpr std::uint64_t kMuchMemory = std::uint64_t{1} << 40;

// The sweeps of a device that leaves the update to the host, or has little memory.
class LesserSweeps final : public Sweeps<float> {
 public:
  LesserSweeps(std::unique_ptr<Sweeps<float>> sweeps, bool updates, std::uint64_t free)
      : Sweeps<float>(sweeps->config(), sweeps->options()),
        sweeps_(std::move(sweeps)),
        updates_(updates),
        free_(free) {}
  int block_rows() const override { return sweeps_->block_rows(); }
  void load(const float* parameters) override { sweeps_->load(parameters); }
  std::unique_ptr<kernels::Pass<float>> begin(std::span<const TokenView> batch,
                                              int stages) override {
    return sweeps_->begin(batch, stages);
  }
  kernels::Bytes ready_memory() const override { return sweeps_->ready_memory(); }
  kernels::Bytes pass_memory(const kernels::PassSize& size) const override {
    return sweeps_->pass_memory(size);
  }
  std::unique_ptr<kernels::Update> make_update(std::span<const kernels::UpdatePart> parts,
                                               kernels::ParameterState& state) override {
    return updates_ ? sweeps_->make_update(parts, state) : nullptr;
  }
  kernels::Bytes update_memory(std::span<const kernels::UpdatePart> parts,
                               bool averaged) const override {
    return updates_ ? sweeps_->update_memory(parts, averaged) : kernels::Bytes{};
  }
  std::uint64_t free_memory() const override { return free_; }

 private:
  const std::unique_ptr<Sweeps<float>> sweeps_;
  const bool updates_;
  const std::uint64_t free_;
};

class EmulatedGpu final : public kernels::Device {
 public:
  explicit EmulatedGpu(bool bf16, bool updates = true, std::uint64_t free = kMuchMemory)
      : bf16_(bf16), updates_(updates), free_(free) {}
  std::string name() const override { return "emulation"; }
  kernels::Backend<float>& host() override { return *host_; }
  std::unique_ptr<Sweeps<float>> make_sweeps(const ModelConfig& config,
                                             const SweepOptions& options) override {
    kernels::cuda::CudaSetup setup;
    setup.config = config;
    setup.options = options;
    setup.bf16 = bf16_;
    setup.chunk_rows = 512;
    setup.host = host_.get();
    std::unique_ptr<Sweeps<float>> sweeps;
    if (bf16_) {
      sweeps = std::make_unique<kernels::cuda::CudaSweeps<kernels::cuda::bf16>>(setup);
    } else {
      sweeps = std::make_unique<kernels::cuda::CudaSweeps<float>>(setup);
    }
    return std::make_unique<LesserSweeps>(std::move(sweeps), updates_, free_);
  }

 private:
  const bool bf16_, updates_;
  const std::uint64_t free_;
  const std::unique_ptr<kernels::Backend<float>> host_ = kernels::make_cpu_backend({.threads = 2});
};

struct Case {
  std::string name;
  bool bf16 = false, memory = false;
  std::function<void(TrainSettings&)> change = [](TrainSettings&) {};
};
void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

class CudaTraining : public testing::TestWithParam<Case> {
 protected:
  TrainSettings settings(int steps) const {
    TrainSettings s;
    s.config = tiny_config(GetParam().memory);
    s.curriculum = make_curriculum({32}, {steps}, {64});
    s.warmup = 2;
    s.learning_rate = 1e-2;
    s.memory_records = 1;
    GetParam().change(s);
    return s;
  }
  EmulatedGpu gpu(bool updates = true) const { return EmulatedGpu(GetParam().bf16, updates); }
  static TrainState fresh(const TrainSettings& s) {
    TrainState state;
    state.parameters = initial_model(s.config, 1).parameters;
    return state;
  }

  const GenomeStore store_ = tiny_store(2000);
};

// |a - b| over the greatest |b|.
double difference(const std::vector<float>& a, const std::vector<float>& b) {
  if (a.size() != b.size()) return INFINITY;
  double worst = 0, greatest = 1e-30;
  for (std::size_t i = 0; i < b.size(); ++i) {
    const double d = std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i]));
    if (!(d <= worst)) worst = d;
    greatest = std::max(greatest, std::abs(static_cast<double>(b[i])));
  }
  return worst / greatest;
}

TEST_P(CudaTraining, UpdatesAsTheHostDoes) {
  const TrainSettings s = settings(4);
  EmulatedGpu device = gpu(), other = gpu(false);
  Trainer trainer(s, store_, device, fresh(s)), on_host(s, store_, other, fresh(s));
  // The same arithmetic in double, but for the order of the squared norm; Muon: an iteration of
  // fp32 products by another library (seen: 2e-7).
  const double tolerance = s.optimizer == MatrixOptimizer::kMuon ? 1e-6 : 0x1p-22;
  for (int step = 1; step <= 4; ++step) {
    const StepResult a = trainer.step(), b = on_host.step();
    EXPECT_EQ(a.objective.count, b.objective.count);
    EXPECT_EQ(a.tokens, b.tokens);
    EXPECT_NEAR(a.gradient_norm, b.gradient_norm, tolerance * b.gradient_norm) << step;
    if (step == 1) {  // from the same parameters
      EXPECT_DOUBLE_EQ(a.objective.total_nll(), b.objective.total_nll());
      EXPECT_NEAR(a.gradient_norm, b.gradient_norm, 1e-13 * b.gradient_norm);
    }
    if (step % 2 != 0) continue;  // a step whose state nobody asks for, too
    const ObjectiveResult v = trainer.validate(store_, s.curriculum[0], 64),
                          w = on_host.validate(store_, s.curriculum[0], 64);
    EXPECT_NEAR(v.total_nll(), w.total_nll(), tolerance * w.total_nll());
    EXPECT_EQ(v.count, w.count);
    const TrainState& x = trainer.state();
    const TrainState& y = on_host.state();
    EXPECT_EQ(x.step, step);
    EXPECT_LE(difference(x.parameters, y.parameters), tolerance) << step;
    EXPECT_LE(difference(x.first_moment, y.first_moment), tolerance) << step;
    EXPECT_LE(difference(x.second_moment, y.second_moment), tolerance) << step;
    EXPECT_LE(difference(x.average, y.average), tolerance) << step;
    EXPECT_EQ(x.average.empty(), s.average == 0);
    EXPECT_EQ(trainer.weights(), s.average > 0 ? x.average : x.parameters);
    EXPECT_GT(difference(x.parameters, fresh(s).parameters), 1e-3);
    if (s.average == 0) continue;
    EXPECT_GT(difference(x.average, x.parameters), 3e-4);
  }
}

// Two runs are the same bytes, and so is one that was interrupted after each step.
TEST_P(CudaTraining, ResumesToTheSameBytes) {
  const test::TempDir dir;
  TrainingRun run;
  run.settings = settings(3);
  run.training = &store_;
  run.checkpoint = dir / "ckpt";
  run.checkpoint_every = 2;
  const auto train = [&](std::int64_t stop_after) {
    EmulatedGpu device = gpu();
    Model model = initial_model(run.settings.config, run.settings.seed);
    std::int64_t step = 0;
    run.report = [&](const StepRow& row) { step = row.step; };
    run.stop = [&] { return step == stop_after; };
    EXPECT_EQ(run_training(run, device, model), stop_after < 0);
    return model.parameters;
  };
  const std::vector<float> straight = train(-1);
  const std::string checkpoint = test::get(run.checkpoint);
  for (const std::int64_t stop : {1, 2}) {
    run.resume = stop > 1;
    train(stop);
  }
  run.resume = true;
  EXPECT_EQ(train(-1), straight);
  EXPECT_EQ(test::get(run.checkpoint), checkpoint);
}

INSTANTIATE_TEST_SUITE_P(Cases, CudaTraining,
                         testing::Values(Case{.name = "adamw"},
                                         Case{.name = "clipped",
                                              .change = [](TrainSettings& s) { s.clip = 1e-3; }},
                                         Case{.name = "accumulated_and_averaged",
                                              .change =
                                                  [](TrainSettings& s) {
                                                    s.accumulate = 2;
                                                    s.average = 0.5;
                                                  }},
                                         Case{.name = "bf16_averaged",
                                              .bf16 = true,
                                              .change = [](TrainSettings& s) { s.average = 0.5; }},
                                         Case{.name = "muon_with_memory",
                                              .memory = true,
                                              .change =
                                                  [](TrainSettings& s) {
                                                    s.optimizer = MatrixOptimizer::kMuon;
                                                    s.muon_learning_rate = 2e-2;
                                                    s.key_query_factor = 3;
                                                    s.average = 0.5;
                                                  }}),
                         [](const auto& info) { return info.param.name; });

// The host does not count what the device holds; and activations are kept as the memory of the
// device allows.
TEST(CudaTrainingMemory, IsPlannedForHostAndDevice) {
  const GenomeStore store = tiny_store(2000);
  TrainSettings s;
  s.config = tiny_config(false);
  s.config.layers = 6;
  s.config.local_conv.clear();
  s.curriculum = make_curriculum({1000}, {4}, {2000});
  s.average = 0.9;
  const auto plan = [&](bool updates, std::uint64_t free) {
    EmulatedGpu device(false, updates, free);
    return Trainer::plan_memory(s, store, store, device, std::int64_t{1} << 40);
  };
  const MemoryPlan whole = plan(true, kMuchMemory), on_host = plan(false, kMuchMemory);
  const std::int64_t parameters = ParameterTable(s.config).total;
  EXPECT_EQ(whole.keep_every, 1);
  EXPECT_EQ(on_host.bytes - whole.bytes, 8 * parameters);  // the gradient
  // Two moments and the average; the gradient is there without an update, too.
  const auto more = static_cast<std::int64_t>(whole.device_bytes - on_host.device_bytes);
  EXPECT_GE(more, 12 * parameters);
  EXPECT_LT(more, 13 * parameters);
  EXPECT_EQ(plan(true, whole.device_bytes).keep_every, 1);
  const MemoryPlan less = plan(true, whole.device_bytes - 1);
  EXPECT_EQ(less.keep_every, 2);
  EXPECT_LT(less.device_bytes, whole.device_bytes);
  EXPECT_TRUE(less.fits_device());
  EXPECT_NO_THROW(less.require_device());
  const MemoryPlan none = plan(true, 1000);  // no k is of use
  EXPECT_FALSE(none.fits_device());
  EXPECT_EQ(test::error_of(ErrorKind::kResource, [&] { none.require_device(); }),
            "training with these --batch-tokens and --segment-length needs " +
                std::to_string(none.device_bytes) +
                " bytes of the memory of the device; 1000 are free");
  const auto cpu = kernels::make_device({.threads = 1});
  EXPECT_EQ(Trainer::plan_memory(s, store, store, *cpu, 0).device_bytes, 0u);
  EXPECT_TRUE(Trainer::plan_memory(s, store, store, *cpu, 0).fits_device());
}

// What is not finite ends a step with the host's words, wherever it comes from.
TEST(CudaTrainingFaults, NothingThatIsNotFinitePasses) {
  const GenomeStore store = tiny_store(2000);
  TrainSettings s;
  s.config = tiny_config(false);
  s.curriculum = make_curriculum({64}, {4}, {64});
  s.mask.rate = 0.5;
  const ParameterTable table(s.config);
  const auto at = [](std::int64_t offset) { return static_cast<std::size_t>(offset); };
  const auto failure = [&](const std::function<void(TrainState&)>& inject) {
    std::string messages;
    for (const bool updates : {true, false}) {
      EmulatedGpu device(false, updates);
      TrainState state;
      state.parameters = initial_model(s.config, 1).parameters;
      state.first_moment.resize(state.parameters.size());
      state.second_moment.resize(state.parameters.size());
      inject(state);
      Trainer trainer(s, store, device, state);
      messages += test::error_of(ErrorKind::kNumeric, [&] { trainer.step(); }) + "\n";
      EXPECT_EQ(trainer.steps(), 0);
    }
    return messages;
  };
  const auto twice = [](const std::string& text) { return text + "\n" + text + "\n"; };
  EXPECT_EQ(failure([&](TrainState& t) { t.parameters[at(table.head_bias)] = NAN; }),
            twice("the loss is not finite"));
  // A feed-forward that is far off and adds nothing; but what lies before its gelu has a gradient.
  const LayerOffsets& last = table.layers.back();
  EXPECT_EQ(failure([&](TrainState& t) {
              std::fill_n(t.parameters.begin() + last.up_bias, s.config.ff_dim, 1e38f);
              std::fill_n(t.parameters.begin() + last.down_weight,
                          last.down_bias - last.down_weight, 0.0f);
            }),
            twice("the gradient is not finite"));
  for (const ParameterSpec& spec : {table.specs.front(), table.specs[5], table.specs.back()}) {
    for (const std::int64_t i : {spec.offset, spec.offset + spec.size - 1}) {
      EXPECT_EQ(failure([&](TrainState& t) { t.first_moment[at(i)] = INFINITY; }),
                twice("an updated parameter is not finite"));
      EXPECT_EQ(failure([&](TrainState& t) { t.second_moment[at(i)] = NAN; }),
                twice("an updated parameter is not finite"));
    }
  }
}

}  // namespace
}  // namespace m5
