// Cases of the linear layers.

#include <cmath>
#include <memory>
#include <type_traits>
#include <utility>

#include "kernels/case_builder.hpp"

namespace m5::kernels {

namespace {

// A backend may multiply whole steps of 64 rows.
std::int64_t slack_of(int n, int columns) { return std::int64_t{(64 - n % 64) % 64} * columns; }

enum Then { kStore, kAdd, kGelu };

template <class B>
auto packed(B& b, int in, int out, typename B::LinearUse use, const auto* weight,
            const auto* bias) {
  auto linear = b.make_linear(in, out, use);
  b.pack(*linear, weight, bias);
  return std::shared_ptr(std::move(linear));
}

Case linear(int n, int in, int out, Then then, bool with_bias) {
  const char* names[] = {"", ",add", ",gelu"};
  Builder t("linear", text(in) + "->" + text(out) + names[then] + (with_bias ? ",bias" : ""), n,
            2.0 * n * in * out);
  const int x = t.factor("x", std::int64_t{n} * in);
  const int weight = t.factor("weight", std::int64_t{in} * out, 1 / std::sqrt(in));
  const int bias = t.input("bias", out);
  const std::int64_t size = std::int64_t{n} * out;
  const int y = then == kAdd ? t.added("y", size, true) : t.output("y", size, true);
  t.slack(x, slack_of(n, in));
  t.slack(y, slack_of(n, out));
  t.prepare([=](auto& b, auto& m) -> Run {
    using B = std::remove_reference_t<decltype(b)>;
    auto l = packed(b, in, out, B::kForward, m.real(weight), with_bias ? m.real(bias) : nullptr);
    return [=, &b, &m] {
      b.linear(0, *l, n, m.real(x), m.real(y), static_cast<typename B::Then>(then));
    };
  });
  return t.c;
}

Case linear_backward_input(int n, int in, int out, bool add) {
  Builder t("linear_backward_input", text(in) + "<-" + text(out) + (add ? ",add" : ""), n,
            2.0 * n * in * out);
  const int dy = t.factor("dy", std::int64_t{n} * out);
  const int weight = t.factor("weight", std::int64_t{in} * out, 1 / std::sqrt(out));
  const int x = t.input("x", std::int64_t{n} * in);
  const std::int64_t size = std::int64_t{n} * in;
  const int dx = add ? t.added("dx", size, true) : t.output("dx", size, true);
  t.slack(dy, slack_of(n, out));
  t.slack(dx, slack_of(n, in));
  t.prepare([=](auto& b, auto& m) -> Run {
    using B = std::remove_reference_t<decltype(b)>;
    auto l = packed(b, in, out, B::kForwardAndBackward, m.real(weight),
                    static_cast<decltype(m.real(0))>(nullptr));
    return [=, &b, &m] { b.linear_backward_input(0, *l, n, m.real(dy), m.real(dx), add); };
  });
  t.c.loss = [=](DoubleBackend& b, DoubleMemory& m) {
    auto l =
        packed(b, in, out, DoubleBackend::kForward, m.real(weight), static_cast<double*>(nullptr));
    std::vector<double> y = zeros(std::int64_t{n} * out);
    b.linear(0, *l, n, m.real(x), y.data(), DoubleBackend::Then::kStore);
    return dot(m.real(dy), y);
  };
  t.c.gradients = {{x, dx}};
  return t.c;
}

Case linear_backward_weight(int n, int in, int out, bool with_bias) {
  Builder t("linear_backward_weight", text(in) + "->" + text(out) + (with_bias ? ",bias" : ""), n,
            2.0 * n * in * out);
  const int x = t.factor("x", std::int64_t{n} * in);
  const int dy =
      with_bias ? t.derived("dy", std::int64_t{n} * out) : t.factor("dy", std::int64_t{n} * out);
  const int weight = t.input("weight", std::int64_t{in} * out);
  const int bias = t.input("bias", out);
  if (with_bias) {
    // The bias sums dy as it is, the product may round it to bf16: few bits, which both take as
    // they are.
    const int any = t.input("any", std::int64_t{n} * out);
    t.c.derive = [=](DoubleBackend&, DoubleMemory& m) {
      for (std::int64_t i = 0; i < std::int64_t{n} * out; ++i) {
        m.real(dy)[i] = std::round(16 * m.real(any)[i]) / 16;
      }
    };
  }
  const int d_weight = t.added("d_weight", std::int64_t{in} * out, false);
  const int d_bias = t.added("d_bias", out, false);
  t.prepare([=](auto& b, auto& m) -> Run {
    return [=, &b, &m] {
      b.linear_backward_weight(0, in, out, n, m.real(x), m.real(dy), m.real(d_weight),
                               with_bias ? m.real(d_bias) : nullptr);
    };
  });
  t.c.loss = [=](DoubleBackend& b, DoubleMemory& m) {
    auto l = packed(b, in, out, DoubleBackend::kForward, m.real(weight), m.real(bias));
    std::vector<double> y = zeros(std::int64_t{n} * out);
    b.linear(0, *l, n, m.real(x), y.data(), DoubleBackend::Then::kStore);
    return dot(m.real(dy), y);
  };
  t.c.gradients = {{weight, d_weight}};
  if (with_bias) t.c.gradients.push_back({bias, d_bias});
  return t.c;
}

}  // namespace

void add_linear_cases(CaseSet set, std::vector<Case>& cases) {
  const auto add = [&](Case c) { cases.push_back(std::move(c)); };
  const auto linear_of = [&](int n, int in, int out) {
    for (Then then : {kStore, kAdd, kGelu}) add(linear(n, in, out, then, then != kStore));
    add(linear(n, in, out, kStore, true));
    add(linear_backward_input(n, in, out, false));
    add(linear_backward_input(n, in, out, true));
    add(linear_backward_weight(n, in, out, false));
    add(linear_backward_weight(n, in, out, true));
  };
  switch (set) {
    case CaseSet::kCompare:
      for (int n : {1, 2, 3, 127, 128, 129, 300}) {
        linear_of(n, 128, 192);
        linear_of(n, 24, 40);
        linear_of(n, 8, 8);
      }
      linear_of(129, 512, 128);
      linear_of(129, 1096, 24);  // longer than what is summed at a time (kernels/cpu/onednn.cpp)
      linear_of(129, 24, 1096);
      break;
    case CaseSet::kGradient:
      for (int n : {1, 7}) linear_of(n, 8, 5);
      break;
    case CaseSet::kBenchmark:
      for (int dim : {128, 256, 512}) {
        for (int out : {dim, 4 * dim}) {
          add(linear(kBenchmarkRows, dim, out, kStore, false));
          add(linear(kBenchmarkRows, dim, out, kGelu, true));
          add(linear_backward_input(kBenchmarkRows, dim, out, false));
          add(linear_backward_weight(kBenchmarkRows, dim, out, true));
        }
        add(linear(kBenchmarkRows, 4 * dim, dim, kAdd, true));
      }
      break;
  }
}

}  // namespace m5::kernels
