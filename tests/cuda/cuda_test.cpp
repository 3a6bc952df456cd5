// The CUDA device, its kernels as host code (kernels/cuda/emulation).
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cctype>
#include <numeric>
#include <stdexcept>

#include "kernel_checks.hpp"
#include "kernels/cuda/sweeps.hpp"
#include "m5/error.hpp"
#include "pass_checks.hpp"

namespace m5::kernels::cuda {

// For the names of tests.
static void PrintTo(const PassCase& c, std::ostream* out) { *out << c.name; }

namespace {

std::unique_ptr<Sweeps<float>> make(const CudaSetup& setup) {
  if (setup.bf16) return std::make_unique<CudaSweeps<bf16>>(setup);
  return std::make_unique<CudaSweeps<float>>(setup);
}

void expect_all(const std::vector<Check>& checks) {
  for (const Check& check : checks) {
    EXPECT_TRUE(check.ok()) << check.name << ": " << check.error << ", allowed are "
                            << check.tolerance;
  }
}

TEST(CudaKernels, AreThoseOfRef) {
  Device device(0);
  const std::vector<Check> checks = kernel_checks(device);
  EXPECT_GT(checks.size(), 400u);
  expect_all(checks);
}

void expect_cases(bool narrow) {
  Device device(0);
  const std::vector<Check> checks = case_checks(device, narrow);
  EXPECT_GT(checks.size(), 600u);
  expect_all(checks);
}
TEST(CudaCases, AreThoseOfRefInFp32) { expect_cases(false); }
TEST(CudaCases, AreThoseOfRefInBf16) { expect_cases(true); }

template <Fused kFused>
std::unique_ptr<Sweeps<float>> make_fused(CudaSetup setup) {
  setup.fused = kFused;
  return make(setup);
}

class CudaPasses : public testing::TestWithParam<PassCase> {};

TEST_P(CudaPasses, AreThoseOfRef) { expect_all(pass_checks(GetParam(), {false, true}, make)); }

TEST_P(CudaPasses, DoNotDependOnChunksAndCompany) {
  EXPECT_EQ(company(GetParam(), false, make), 0);
}

class CudaLongPasses : public testing::TestWithParam<PassCase> {};

TEST_P(CudaLongPasses, AreThoseOfRef) { expect_all(pass_checks(GetParam(), {false, true}, make)); }

TEST(CudaParts, AreThoseOfRef) {
  for (const PassCase& c : parts_cases()) expect_all(pass_checks(c, {false}, make));
}

TEST(CudaPolyA, RowsAreThoseOfAShortOne) {
  for (const bool narrow : {false, true}) expect_all(poly_a_checks(1500, narrow, make));
}

class CudaFusedPasses : public testing::TestWithParam<PassCase> {};

TEST_P(CudaFusedPasses, AreThoseOfRef) {
  const ModelConfig& config = GetParam().config;
  const Device device(0);
  const int dim = config.dim, ff = config.ff_dim;
  if (fuses_layers(dim, ff)) {
    expect_all(pass_checks(GetParam(), {true}, make_fused<Fused::kWarps>));
    EXPECT_EQ(company(GetParam(), true, make_fused<Fused::kWarps>), 0);
  }
  if (takes_warpgroups(device, dim, ff) || takes_norm_gelu(device, dim, ff)) {
    expect_all(pass_checks(GetParam(), {true}, make_fused<Fused::kWarpgroups>));
    EXPECT_EQ(company(GetParam(), true, make_fused<Fused::kWarpgroups>), 0);
  }
}

TEST(CudaFused, KernelsOfAFeedForwardAgree) {
  Device device(0);
  EXPECT_TRUE(warpgroups_agree(device, 128, 128, 200));
  EXPECT_TRUE(warpgroups_agree(device, 256, 64, 130));
  EXPECT_FALSE(warpgroups_agree(device, 64, 64, 1));  // has no such kernel
  EXPECT_FALSE(warpgroups_agree(device, 128, 96, 1));
  EXPECT_TRUE(norm_gelu_agrees(device, 512, 320, 130));
  EXPECT_FALSE(norm_gelu_agrees(device, 256, 64, 1));
}

std::string test_name(const testing::TestParamInfo<PassCase>& info) {
  std::string name = info.param.name;
  for (char& c : name) {
    if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
  }
  return name;
}
INSTANTIATE_TEST_SUITE_P(Cases, CudaPasses, testing::ValuesIn(pass_cases()), test_name);
INSTANTIATE_TEST_SUITE_P(Cases, CudaLongPasses, testing::ValuesIn(long_cases(1500)), test_name);
INSTANTIATE_TEST_SUITE_P(Cases, CudaFusedPasses, testing::ValuesIn(fused_cases()), test_name);

TEST(CudaGradient, IsADoubleSumOfChunks) { expect_all(many_chunks_checks(make)); }

// What a call back throws ends the pass alone, whatever was on its way then.
TEST(CudaFailures, LeaveTheSweepsAsTheyWere) {
  const auto host = make_ref_backend<float>();
  CudaSetup setup;
  setup.config = config_of(16, 8, 32, 2, 2, 3, {});
  setup.chunk_rows = 512;
  setup.host = host.get();
  const std::unique_ptr<Sweeps<float>> sweeps = make(setup);
  sweeps->load(random_parameters<float>(setup.config, 3).data());
  const auto a = random_tokens(1700, 1);
  const std::vector<TokenView> batch{{a.data(), 1700, true, 0}};
  std::vector<std::int64_t> rows(1700);
  std::iota(rows.begin(), rows.end(), 0);
  const auto run = [&](std::int64_t fails) {
    std::vector<float> result(std::size_t{1700} * (4 + 16));
    float* const hidden = result.data() + std::size_t{1700} * 4;
    const auto pass = sweeps->begin(batch, 1);
    pass->embed(0, true);
    pass->layer(0, 0, 0, true);
    pass->hidden(0, true,
                 [&](std::int64_t first, int n, const float* values) {
                   if (first == fails) throw std::runtime_error("of the sink");
                   std::copy_n(values, std::ptrdiff_t{n} * 16, hidden + first * 16);
                 },
                 {});
    pass->head(0, rows, result.data(), [&](int, std::int64_t first, int, float* p) {
      if (first == fails - 1700) throw std::runtime_error("of the rows");
      p[0] += 1;
    });
    return result;
  };
  const auto b = random_tokens(5000, 2);
  const std::vector<TokenView> other{{b.data(), 5000, false, 0}};
  std::vector<std::int64_t> last_rows(1700);
  std::iota(last_rows.begin(), last_rows.end(), 3300);
  const auto run_other = [&] {
    std::vector<float> result(std::size_t{1700} * 4);
    const auto pass = sweeps->begin(other, 1);
    pass->embed(0, true);
    pass->layer(0, 0, 0, true);
    pass->head(0, last_rows, result.data(), {});
    return result;
  };
  const std::vector<float> of_other = run_other();
  const std::vector<float> expected = run(-1);
  for (const std::int64_t fails : {512, 1536, 1700 + 512, 1700 + 1536}) {
    EXPECT_THROW(run(fails), std::runtime_error) << fails;
    // Another batch first, of more rows and other ones: nothing of the old pass is on its way.
    EXPECT_EQ(run_other(), of_other) << fails;
    EXPECT_EQ(run(-1), expected) << fails;
  }
  // Sweeps that end with a pass that has only begun.
  const std::unique_ptr<Sweeps<float>> short_lived = make(setup);
  short_lived->load(random_parameters<float>(setup.config, 3).data());
  short_lived->begin(batch, 1);
}

// Fused layers have no rows of ff columns in memory.
TEST(CudaMemory, OfFusedLayersIsLess) {
  const auto host = make_ref_backend<float>();
  CudaSetup setup;
  setup.config = config_of(64, 8, 96, 1, 2, 1);
  setup.bf16 = true;
  setup.chunk_rows = 1024;
  setup.host = host.get();
  const auto parameters = random_parameters<float>(setup.config, 3);
  std::vector<std::uint64_t> taken;
  for (const Fused fused : {Fused::kNone, Fused::kWarps, Fused::kChosen}) {
    setup.fused = fused;
    CudaSweeps<bf16> sweeps(setup);
    sweeps.load(parameters.data());
    taken.push_back(sweeps.device().taken_bytes());
    EXPECT_EQ(taken.back(), sweeps.ready_memory().device);
  }
  EXPECT_EQ(taken[0] - taken[1], 1024u * 96 * sizeof(bf16));
  EXPECT_EQ(taken[1], taken[2]);  // what is chosen for 64 columns
}

// What ready_memory tells is what is taken, to the byte; what pass_memory tells covers it where
// most is, with the rows that are asked for.
TEST(CudaMemory, IsWhatIsTold) {
  for (const bool training : {false, true}) {
    for (const bool conv : {false, true}) {
      const auto host = make_ref_backend<float>();
      CudaSetup setup;
      setup.config =
          config_of(16, 8, 32, 3, 4, 3,
                    conv ? std::vector<LocalConv>{{3, 2}, {}, {5, 1}} : std::vector<LocalConv>{});
      setup.options.training = training;
      setup.bf16 = conv;
      setup.chunk_rows = 1024;
      setup.host = host.get();
      std::unique_ptr<Sweeps<float>> sweeps = make(setup);
      Device& device = conv ? static_cast<CudaSweeps<bf16>&>(*sweeps).device()
                            : static_cast<CudaSweeps<float>&>(*sweeps).device();
      EXPECT_EQ(device.taken_bytes(), 0u);
      const auto parameters = random_parameters<float>(setup.config, 3);
      sweeps->load(parameters.data());
      EXPECT_EQ(device.taken_bytes(), sweeps->ready_memory().device);
      const auto a = random_tokens(1700, 1), b = random_tokens(3, 2);
      const std::vector<TokenView> batch{{a.data(), 1700, true, 0}, {b.data(), 3, false, 1}};
      const int stages = !training ? 1 : conv ? 5 : 3;
      const auto pass = sweeps->begin(batch, stages);
      const PassSize size{1703, 2, 2, stages};
      const std::uint64_t told = sweeps->ready_memory().device + sweeps->pass_memory(size).device;
      EXPECT_EQ(sweeps->free_memory(), device.free_bytes() - kSpareBytes);
      const ParameterTable& table = sweeps->table();
      std::vector<std::int64_t> rows(1703);
      std::iota(rows.begin(), rows.end(), 0);
      std::vector<float> log_probs(std::size_t{4} * 1703);
      std::vector<double> gradient(parameters.size());
      std::atomic<std::uint64_t> taken = 0;
      int at = 0;  // the stage that x is in
      const auto next = [&] {
        const int before = at;
        at += training;
        return before;
      };
      pass->embed(0, true);
      for (int l = 0; l < 3; ++l) {
        if (setup.config.has_conv(l)) {
          const int in = next();
          pass->convolve(l, in, at, true);
        }
        if (l == 2) break;
        const int in = next();
        pass->layer(l, in, at, true);
      }
      if (training) {
        const auto loss = [&](int, std::int64_t, int, const float*, const float*, const float*) {
          taken = device.taken_bytes();
        };
        pass->head_backward(at, rows, log_probs.data(), loss, gradient.data());
      } else {
        const auto finish = [&](int, std::int64_t, int, const float*) {
          taken = device.taken_bytes();
        };
        pass->head(at, rows, log_probs.data(), finish);
      }
      EXPECT_LE(taken, told);
      EXPECT_GE(static_cast<double>(taken), 0.999 * static_cast<double>(told));
      if (!training) continue;
      const std::int64_t d = setup.config.dim;
      std::vector<UpdatePart> parts{{.offset = 0, .size = table.total - d * d}};
      if (conv) {
        parts.push_back({.offset = table.total - d * d,
                         .size = d * d,
                         .rows = static_cast<int>(d),
                         .columns = static_cast<int>(d)});
      }
      ParameterState state;
      state.parameters = parameters;
      if (conv) state.average = parameters;
      const std::uint64_t before = device.taken_bytes();
      const auto update = sweeps->make_update(parts, state);
      EXPECT_EQ(device.taken_bytes() - before, sweeps->update_memory(parts, conv).device);
      EXPECT_TRUE(state.parameters.empty());
    }
  }
}

}  // namespace
}  // namespace m5::kernels::cuda
