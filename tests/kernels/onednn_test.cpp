// Matrix products: what of their surroundings they depend on, and what they leave as it was.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <random>
#include <stdexcept>
#include <thread>

#include "kernels/backend.hpp"
#include "m5/error.hpp"

// Of the OpenMP runtime that comes with oneDNN, if there is one.
extern "C" __attribute__((weak)) void omp_set_num_threads(int);
extern "C" __attribute__((weak)) int omp_get_max_threads();

namespace m5::kernels {
namespace {

using Then = Backend<float>::Then;

std::vector<float> some_values(std::size_t count) {
  std::mt19937 random(1);
  std::vector<float> values(count);
  for (float& v : values) v = static_cast<float>(random() % 4096) / 4096 - 0.5f;
  return values;
}

// Skipped where the machine lacks the instruction set that CTest names.
class Products : public testing::Test {
 protected:
  void SetUp() override {
    try {
      make_cpu_backend({.threads = 1});
    } catch (const Error& error) {
      GTEST_SKIP() << error.what();
    }
  }
};

// The first rows of a product are the same to the bit however many follow. Of the shapes of the
// preset `base`, and of sums whose parts AMX would add in an order that depends on the rows.
TEST_F(Products, DoNotDependOnTheNumberOfRows) {
  constexpr int kMostRows = 704, kRows = 64;
  for (const auto& [in, out] :
       {std::pair{512, 2048}, std::pair{2048, 512}, std::pair{512, 512}, std::pair{1024, 512},
        std::pair{1536, 1024}, std::pair{2048, 128}, std::pair{3072, 64}}) {
    const auto x = some_values(static_cast<std::size_t>(kMostRows) * in);
    const auto weight = some_values(static_cast<std::size_t>(in) * out);
    for (const bool bf16 : {false, true}) {
      const auto backend = make_cpu_backend({.threads = 1, .bf16 = bf16});
      const auto linear = backend->make_linear(in, out, Backend<float>::kForwardAndBackward);
      backend->pack(*linear, weight.data(), nullptr);
      std::vector<float> expected;
      for (int n : {kRows, 128, 256, 320, 384, 640, kMostRows}) {
        std::vector<float> y(static_cast<std::size_t>(n) * out);
        backend->for_tiles(1, [&](int worker, std::int64_t) {
          backend->linear(worker, *linear, n, x.data(), y.data(), Then::kStore);
        });
        y.resize(static_cast<std::size_t>(kRows) * out);
        if (expected.empty()) expected = y;
        ASSERT_TRUE(y == expected) << in << " to " << out << ", rows: " << n << ", bf16: " << bf16;
      }
    }
  }
}

// The number of OpenMP threads is the caller's own matter.
TEST_F(Products, LeaveTheCallersThreadsAsTheyWere) {
  if (!omp_set_num_threads || !omp_get_max_threads) GTEST_SKIP() << "no OpenMP";
  std::thread([] {
    omp_set_num_threads(3);
    const auto weight = some_values(64 * 32), x = some_values(64 * 64);
    std::vector<float> y(64 * 32);
    const auto backend = make_cpu_backend({.threads = 2});
    const auto linear = backend->make_linear(64, 32, Backend<float>::kForward);
    backend->pack(*linear, weight.data(), nullptr);
    EXPECT_EQ(omp_get_max_threads(), 3);
    const auto run = [&](int worker, std::int64_t) {
      EXPECT_EQ(omp_get_max_threads(), 1);
      if (worker == 0) backend->linear(0, *linear, 64, x.data(), y.data(), Then::kStore);
    };
    backend->for_tiles(8, run);
    EXPECT_EQ(omp_get_max_threads(), 3);
    const auto fail = [](int, std::int64_t) { throw std::runtime_error("tile"); };
    EXPECT_THROW(backend->for_tiles(8, fail), std::runtime_error);
    EXPECT_EQ(omp_get_max_threads(), 3);
  }).join();
}

// All 2^16 values of bf16, with what lies between each and the next.
TEST(Bf16, IsTheSameInEveryBackend) {
  std::vector<float> x;
  for (std::uint32_t high = 0; high < 0x10000; ++high) {
    for (const std::uint32_t low : {0x0u, 0x1u, 0x7fffu, 0x8000u, 0x8001u, 0xffffu}) {
      const float value = std::bit_cast<float>(high << 16 | low);
      if (!std::isnan(value)) x.push_back(value);
    }
  }
  const auto count = static_cast<std::int64_t>(x.size());
  std::vector<std::uint16_t> expected(x.size()), exact(x.size()), actual(x.size());
  make_ref_backend<float>()->to_bf16(count, x.data(), expected.data());
  const std::vector<double> wide(x.begin(), x.end());
  make_ref_backend<double>()->to_bf16(count, wide.data(), exact.data());
  make_cpu_backend({.threads = 1})->to_bf16(count, x.data(), actual.data());
  for (std::size_t i = 0; i < x.size(); ++i) {
    ASSERT_EQ(actual[i], expected[i]) << x[i];
    ASSERT_EQ(exact[i], expected[i]) << x[i];
    // A value that is one of bf16 stays.
    const auto bits = std::bit_cast<std::uint32_t>(x[i]);
    ASSERT_TRUE((bits & 0xffff) != 0 || expected[i] == bits >> 16) << x[i];
  }
}

}  // namespace
}  // namespace m5::kernels
