// What the attention promises, whoever computes it: positive weights, a state that adds up, the
// proved distance to exact softmax attention, and sums that do not drift with the length.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "kernels/cases.hpp"
#include "kernels/math/minimax.hpp"

namespace m5::kernels {
namespace {

template <class T>
std::vector<T> random_values(std::int64_t count, double scale, unsigned seed) {
  std::mt19937_64 random(seed);
  std::vector<T> values(static_cast<std::size_t>(count));
  for (T& v : values) {
    v = static_cast<T>(scale * (2 * static_cast<double>(random() >> 11) * 0x1p-53 - 1));
  }
  return values;
}

// o and weight_sum of queries [n][4H] over keys [m][4H] and values [m][dv H], all bounded here.
template <class T>
struct Attention {
  Attention(Backend<T>& backend, const AttentionShape& s, std::vector<T>& q, std::vector<T>& k,
            const std::vector<T>& v) {
    const std::int64_t H = s.heads;
    const auto n = static_cast<int>(q.size() / static_cast<std::size_t>(4 * H));
    const auto m = static_cast<int>(k.size() / static_cast<std::size_t>(4 * H));
    backend.bound(0, s, n, 4 * H, q.data(), q.data());
    backend.bound(0, s, m, 4 * H, k.data(), k.data());
    std::vector<double> state(static_cast<std::size_t>(s.state_size()));
    backend.attention_accumulate(0, s, m, k.data(), 4 * H, v.data(), s.value_dim * H, true,
                                 state.data());
    std::vector<T> scaled(state.size());
    backend.attention_scale(s, state.data(), scaled.data());
    o.resize(static_cast<std::size_t>(n * s.value_dim * H));
    weight_sum.resize(static_cast<std::size_t>(n * H));
    backend.attention_query(0, s, n, q.data(), 4 * H, scaled.data(), o.data(), weight_sum.data());
  }
  std::vector<T> o, weight_sum;
};

// Queries opposite to the one key and far out: q.k reaches -R, where the weight is least.
TEST(Attention, WeightsArePositive) {
  const auto cpu = make_cpu_backend({});
  const auto plain = make_ref_backend<float>();
  for (double bound : {0.5, 1.0, 2.0, 3.0, 4.0}) {
    for (int order : {2, 4, 6, 8}) {
      const AttentionShape s = make_attention_shape(16, 1, order, bound);
      const double eps = relative_error_to_exp(s.polynomial, bound);
      for (double length : {0.1, 1.0, 30.0, 1e4}) {
        for (Backend<float>* backend : {cpu.get(), plain.get()}) {
          auto k = random_values<float>(4 * 16, length, 1);
          auto q = k;
          for (float& x : q) x = -x;
          const auto far = random_values<float>(4 * 16 * 63, length, 2);
          q.insert(q.end(), far.begin(), far.end());
          const Attention<float> a(*backend, s, q, k, std::vector<float>(16, 1.f));
          for (float w : a.weight_sum) {
            ASSERT_GT(w, 0.9 * (1 - eps) * std::exp(-bound)) << bound << " " << order;
            ASSERT_LT(w, 1.01 * (1 + eps) * std::exp(bound)) << bound << " " << order;
          }
          for (float o : a.o) ASSERT_NEAR(o, 1, 1e-6);  // the mean of ones
        }
      }
    }
  }
}

// |o - o_exact| <= 2 eps / (1 - eps) max |v|: against exact softmax, in every order and bound.
TEST(Attention, WithinTheBoundOfExactSoftmax) {
  constexpr int kQueries = 40, kKeys = 300, H = 8, V = 3;
  const auto ref = make_ref_backend<double>();
  const auto cpu = make_cpu_backend({});
  for (double bound : {1.0, 2.0, 3.0, 4.0}) {
    for (int order : {2, 4, 6, 8}) {
      const AttentionShape s = make_attention_shape(H, V, order, bound);
      const double eps = relative_error_to_exp(s.polynomial, bound);
      for (double length : {0.5, 3.0, 100.0}) {
        auto q = random_values<double>(kQueries * 4 * H, length, 3);
        auto k = random_values<double>(kKeys * 4 * H, length, 4);
        const auto v = random_values<double>(kKeys * V * H, 1, 5);
        std::vector<float> q32(q.begin(), q.end()), k32(k.begin(), k.end());
        const std::vector<float> v32(v.begin(), v.end());
        const Attention<double> a(*ref, s, q, k, v);  // bounds q and k
        const Attention<float> fast(*cpu, s, q32, k32, v32);
        double greatest = 0;
        for (std::size_t i = 0; i < kQueries; ++i) {
          for (std::size_t h = 0; h < H; ++h) {
            double sum = 0, weighted[V] = {}, greatest_v = 0;
            for (std::size_t j = 0; j < kKeys; ++j) {
              double dot = 0;
              for (std::size_t c = 0; c < 4; ++c)
                dot += q[(4 * i + c) * H + h] * k[(4 * j + c) * H + h];
              ASSERT_LT(std::abs(dot), bound);
              sum += std::exp(dot);
              double square = 0;
              for (std::size_t c = 0; c < V; ++c) {
                weighted[c] += std::exp(dot) * v[(V * j + c) * H + h];
                square += v[(V * j + c) * H + h] * v[(V * j + c) * H + h];
              }
              greatest_v = std::max(greatest_v, std::sqrt(square));
            }
            double error = 0, error32 = 0;
            for (std::size_t c = 0; c < V; ++c) {
              const double exact = weighted[c] / sum;
              error += std::pow(a.o[(V * i + c) * H + h] - exact, 2);
              error32 += std::pow(static_cast<double>(fast.o[(V * i + c) * H + h]) - exact, 2);
            }
            const double limit = 2 * eps / (1 - eps) * greatest_v;
            ASSERT_LE(std::sqrt(error), limit * (1 + 1e-9)) << "R " << bound << " p " << order;
            ASSERT_LE(std::sqrt(error32), limit + 1e-5 * greatest_v)
                << "R " << bound << " p " << order;
            greatest = std::max(greatest, std::sqrt(error) / limit);
          }
        }
        // The test has teeth: the bound is for the worst case, and keys far out come near it.
        if (length > 1) {
          EXPECT_GT(greatest, 2e-3) << "R " << bound << " p " << order;
        }
      }
    }
  }
}

template <class T>
std::vector<double> state_of(Backend<T>& backend, const AttentionShape& s, const std::vector<T>& z,
                             const std::vector<T>& u, const std::vector<int>& parts) {
  const std::int64_t H = s.heads;
  std::vector<double> state(static_cast<std::size_t>(s.state_size()));
  std::int64_t row = 0;
  for (int n : parts) {
    backend.attention_accumulate(0, s, n, z.data() + row * 4 * H, 4 * H,
                                 u.data() + row * s.value_dim * H, s.value_dim * H, true,
                                 state.data());
    row += n;
  }
  return state;
}

// Whole runs may come in any number of calls without changing a bit; other cuts and the order of
// the rows change the rounding alone.
TEST(Attention, TheStateAddsUp) {
  constexpr int kRows = 700;
  const AttentionShape s = make_attention_shape(8, 4, 4, 2);
  auto z = random_values<float>(kRows * 4 * 8, 2, 6);
  const auto u = random_values<float>(kRows * 4 * 8, 1, 7);
  const auto cpu = make_cpu_backend({});
  const auto plain = make_ref_backend<float>();
  cpu->bound(0, s, kRows, 32, z.data(), z.data());
  std::vector<float> z_reversed, u_reversed;
  for (int i = kRows - 1; i >= 0; --i) {
    z_reversed.insert(z_reversed.end(), z.begin() + i * 32, z.begin() + (i + 1) * 32);
    u_reversed.insert(u_reversed.end(), u.begin() + i * 32, u.begin() + (i + 1) * 32);
  }
  for (Backend<float>* backend : {cpu.get(), plain.get()}) {
    const auto whole = state_of(*backend, s, z, u, {kRows});
    EXPECT_EQ(state_of(*backend, s, z, u, {128, 384, 188}), whole);
    const auto cut = state_of(*backend, s, z, u, {1, 2, 126, 300, 271});
    const auto reversed = state_of(*backend, s, z_reversed, u_reversed, {kRows});
    double size = 0, cut_error = 0, reversed_error = 0;
    for (std::size_t i = 0; i < whole.size(); ++i) {
      size += whole[i] * whole[i];
      cut_error += std::pow(cut[i] - whole[i], 2);
      reversed_error += std::pow(reversed[i] - whole[i], 2);
    }
    EXPECT_LT(std::sqrt(cut_error / size), 5e-7);
    EXPECT_LT(std::sqrt(reversed_error / size), 5e-7);
  }
}

// Poly-A: a million equal rows. A running sum in fp32 would be off by percents.
TEST(Attention, AMillionEqualRows) {
  constexpr int kBlock = 1024, kBlocks = 1024;
  const AttentionShape s = make_attention_shape(8, 2, 4, 2);
  const auto cpu = make_cpu_backend({});
  const auto exact = make_ref_backend<double>();
  auto one_z = random_values<float>(32, 2, 8);
  const auto one_u = random_values<float>(16, 1, 9);
  cpu->bound(0, s, 1, 32, one_z.data(), one_z.data());
  std::vector<float> z, u;
  for (int i = 0; i < kBlock; ++i) {
    z.insert(z.end(), one_z.begin(), one_z.end());
    u.insert(u.end(), one_u.begin(), one_u.end());
  }
  std::vector<double> state(static_cast<std::size_t>(s.state_size()));
  for (int b = 0; b < kBlocks; ++b) {
    cpu->attention_accumulate(0, s, kBlock, z.data(), 32, u.data(), 16, true, state.data());
  }
  const std::vector<double> z64(one_z.begin(), one_z.end()), u64(one_u.begin(), one_u.end());
  const auto row = state_of(*exact, s, z64, u64, {1});
  for (std::size_t i = 0; i < state.size(); ++i) {
    const double expected = row[i] * kBlock * kBlocks;
    ASSERT_NEAR(state[i], expected, 1e-5 * std::abs(expected)) << i;
  }
}

}  // namespace
}  // namespace m5::kernels
