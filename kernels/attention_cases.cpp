// The rows of the case table that belong to the attention.
#include <algorithm>
#include <utility>

#include "kernels/case_builder.hpp"

namespace m5::kernels {
namespace {

constexpr int kKeys = 64;  // behind the states that queries read

std::string shape_text(const AttentionShape& s) {
  return "H=" + text(s.heads) + ",dv=" + text(s.value_dim) + ",p=" + text(s.order);
}

// A multiplication and an addition for each element of the state: 2 F C H a row and pass. The
// monomials are not counted, nor the chain rule through them (nn/measured_peak.hpp counts so too).
double state_flops(const AttentionShape& s, int n, int passes) {
  return 2.0 * n * passes * s.heads * s.features * s.columns();
}

// In place on the keys of [n][(4 + dv)H], or from one [n][4H] to another.
Case bound(int n, const AttentionShape& s, bool in_place) {
  Builder t("bound", shape_text(s) + (in_place ? ",in place" : ""), n, 11.0 * n * s.heads);
  const std::int64_t stride = (in_place ? 4 + s.value_dim : 4) * std::int64_t{s.heads};
  const int z = t.input("z", n * stride);
  const int out =
      in_place ? t.added("bounded", n * stride, true) : t.output("bounded", n * stride, true);
  t.prepare([=](auto& b, auto& m) -> Run {
    return [=, &b, &m] { b.bound(0, s, n, stride, m.real(in_place ? out : z), m.real(out)); };
  });
  return t.c;
}

Case bound_backward(int n, const AttentionShape& s, bool in_place) {
  Builder t("bound_backward", shape_text(s) + (in_place ? ",in place" : ""), n, 28.0 * n * s.heads);
  const std::int64_t stride = (in_place ? 4 + s.value_dim : 4) * std::int64_t{s.heads};
  const int z = t.input("z", n * stride), d = t.input("d_bounded", n * stride);
  const int dz = in_place ? t.added("dz", n * stride, true) : t.output("dz", n * stride, true);
  t.prepare([=](auto& b, auto& m) -> Run {
    return [=, &b, &m] {
      b.bound_backward(0, s, n, stride, m.real(z), m.real(in_place ? dz : d), m.real(dz));
    };
  });
  if (in_place) return t.c;
  t.c.loss = [=](DoubleBackend& b, DoubleMemory& m) {
    std::vector<double> bounded = zeros(n * stride);
    b.bound(0, s, n, stride, m.real(z), bounded.data());
    return dot(m.real(d), bounded);
  };
  t.c.gradients = {{z, dz}};
  return t.c;
}

// From rows [n][4H] of keys or queries that may be anything to bounded ones.
void derive_bounded(const AttentionShape& s, int n, DoubleBackend& b, const double* raw,
                    double* bounded) {
  b.bound(0, s, n, 4 * std::int64_t{s.heads}, raw, bounded);
}

// With a unit column keys and values share rows [n][(4 + dv)H]; without, queries and u do not.
Case accumulate(int n, const AttentionShape& s, bool unit_column) {
  Builder t("attention_accumulate", shape_text(s) + (unit_column ? ",unit" : ""), n,
            state_flops(s, n, 1));
  const std::int64_t H = s.heads;
  const std::int64_t z_stride = (unit_column ? 4 + s.value_dim : 4) * H;
  const std::int64_t u_stride = unit_column ? z_stride : s.columns() * H;
  const int raw = t.input("raw", n * z_stride), z = t.derived("z", n * z_stride);
  const int u = t.input("u", unit_column ? 0 : n * u_stride);
  const int state = t.added("state", s.state_size(), false, true);
  t.c.derive = [=](DoubleBackend& b, DoubleMemory& m) {
    std::copy_n(m.real(raw), n * z_stride, m.real(z));
    b.bound(0, s, n, z_stride, m.real(raw), m.real(z));
  };
  t.prepare([=](auto& b, auto& m) -> Run {
    return [=, &b, &m] {
      b.attention_accumulate(0, s, n, m.real(z), z_stride,
                             unit_column ? m.real(z) + 4 * H : m.real(u), u_stride, unit_column,
                             m.wide(state));
    };
  });
  return t.c;
}

Case scale(const AttentionShape& s) {
  Builder t("attention_scale", shape_text(s), 1, static_cast<double>(s.state_size()));
  const int state = t.add({.name = "state", .count = s.state_size(), .scale = 1e6, .wide = true});
  const int scaled = t.output("scaled", s.state_size(), false);
  t.prepare([=](auto& b, auto& m) -> Run {
    return [=, &b, &m] { b.attention_scale(s, m.wide(state), m.real(scaled)); };
  });
  return t.c;
}

// The slots of queries against a state, and how they come about.
struct Query {
  int raw, q, keys, values, scaled;

  Query(Builder& t, int n, const AttentionShape& s) {
    const std::int64_t H = s.heads;
    raw = t.input("raw", n * 4 * H);
    q = t.derived("q", n * 4 * H);
    keys = t.input("keys", kKeys * 4 * H);
    values = t.input("values", kKeys * s.value_dim * H);
    scaled = t.derived("scaled", s.state_size());
  }

  void derive(const AttentionShape& s, int n, DoubleBackend& b, DoubleMemory& m) const {
    const std::int64_t H = s.heads;
    derive_bounded(s, n, b, m.real(raw), m.real(q));
    std::vector<double> k = zeros(kKeys * 4 * H), state = zeros(s.state_size());
    derive_bounded(s, kKeys, b, m.real(keys), k.data());
    b.attention_accumulate(0, s, kKeys, k.data(), 4 * H, m.real(values), s.value_dim * H, true,
                           state.data());
    b.attention_scale(s, state.data(), m.real(scaled));
  }
};

Case query(int n, const AttentionShape& s) {
  Builder t("attention_query", shape_text(s), n, state_flops(s, n, 1));
  const std::int64_t H = s.heads;
  const Query in(t, n, s);
  const int o = t.output("o", n * s.value_dim * H, true);
  const int weight_sum = t.output("weight_sum", n * H, true);
  t.c.derive = [=](DoubleBackend& b, DoubleMemory& m) { in.derive(s, n, b, m); };
  t.prepare([=](auto& b, auto& m) -> Run {
    return [=, &b, &m] {
      b.attention_query(0, s, n, m.real(in.q), 4 * H, m.real(in.scaled), m.real(o),
                        m.real(weight_sum));
    };
  });
  return t.c;
}

Case query_backward(int n, const AttentionShape& s) {
  // The gradient of the monomials, and that of the state.
  Builder t("attention_query_backward", shape_text(s), n, state_flops(s, n, 2));
  const std::int64_t H = s.heads;
  const Query in(t, n, s);
  const int o = t.derived("o", n * s.value_dim * H), weight_sum = t.derived("weight_sum", n * H);
  const int d_o = t.input("d_o", n * s.value_dim * H);
  const int du = t.workspace("du", n * s.columns() * H);
  const int dq = t.output("dq", n * 4 * H, true);
  const int d_scaled = t.added("d_scaled", s.state_size(), false, true);
  t.c.derive = [=](DoubleBackend& b, DoubleMemory& m) {
    in.derive(s, n, b, m);
    b.attention_query(0, s, n, m.real(in.q), 4 * H, m.real(in.scaled), m.real(o),
                      m.real(weight_sum));
  };
  t.prepare([=](auto& b, auto& m) -> Run {
    return [=, &b, &m] {
      b.attention_query_backward(0, s, n, m.real(in.q), 4 * H, m.real(in.scaled), m.real(o),
                                 m.real(weight_sum), m.real(d_o), m.real(du), m.real(dq),
                                 m.wide(d_scaled));
    };
  });
  t.c.loss = [=](DoubleBackend& b, DoubleMemory& m) {
    std::vector<double> out = zeros(n * s.value_dim * H), sums = zeros(n * H);
    b.attention_query(0, s, n, m.real(in.q), 4 * H, m.real(in.scaled), out.data(), sums.data());
    return dot(m.real(d_o), out);
  };
  t.c.gradients = {{in.q, dq}, {in.scaled, d_scaled}};
  return t.c;
}

Case accumulate_backward(int n, const AttentionShape& s) {
  Builder t("attention_accumulate_backward", shape_text(s), n, state_flops(s, n, 2));
  const std::int64_t H = s.heads, stride = (4 + s.value_dim) * H;
  const int kv = t.input("kv", n * stride);
  const int bounded = t.derived("bounded kv", n * stride);
  const int d_state = t.input("d_state", s.state_size());
  const int d_kv = t.output("d_kv", n * stride, true);
  t.c.derive = [=](DoubleBackend& b, DoubleMemory& m) {
    std::copy_n(m.real(kv), n * stride, m.real(bounded));
    b.bound(0, s, n, stride, m.real(kv), m.real(bounded));
  };
  t.prepare([=](auto& b, auto& m) -> Run {
    return [=, &b, &m] {
      b.attention_accumulate_backward(0, s, n, m.real(bounded), stride, m.real(bounded) + 4 * H,
                                      stride, m.real(d_state), m.real(d_kv), m.real(d_kv) + 4 * H);
    };
  });
  t.c.loss = [=](DoubleBackend& b, DoubleMemory& m) {
    std::vector<double> state = zeros(s.state_size());
    b.attention_accumulate(0, s, n, m.real(bounded), stride, m.real(bounded) + 4 * H, stride, true,
                           state.data());
    return dot(m.real(d_state), state);
  };
  t.c.gradients = {{bounded, d_kv}};
  return t.c;
}

}  // namespace

void add_attention_cases(CaseSet set, std::vector<Case>& cases) {
  const auto attention_of = [&](int n, int heads, int value_dim, int order) {
    const AttentionShape s = make_attention_shape(heads, value_dim, order, 2);
    for (bool in_place : {false, true}) {
      if (in_place && set == CaseSet::kBenchmark) continue;  // would come to subnormal numbers
      cases.push_back(bound(n, s, in_place));
      cases.push_back(bound_backward(n, s, in_place));
    }
    cases.push_back(accumulate(n, s, true));
    cases.push_back(accumulate(n, s, false));
    cases.push_back(query(n, s));
    cases.push_back(query_backward(n, s));
    cases.push_back(accumulate_backward(n, s));
    if (n <= 3 || set == CaseSet::kBenchmark) cases.push_back(scale(s));
  };
  switch (set) {
    case CaseSet::kCompare:
      for (int n : {1, 2, 3, 127, 128, 129, 300}) attention_of(n, 16, 8, 4);
      for (int n : {3, 129}) {
        attention_of(n, 8, 8, 6);
        attention_of(n, 24, 4, 4);
        attention_of(n, 32, 1, 2);
        attention_of(n, 8, 16, 2);
        attention_of(n, 8, 32, 4);
        attention_of(n, 8, 4, 8);
        attention_of(n, 16, 5, 6);
      }
      break;
    case CaseSet::kGradient:
      for (int order : {2, 4, 6, 8}) attention_of(3, 8, order, order);
      attention_of(130, 8, 1, 2);
      break;
    case CaseSet::kBenchmark:
      for (int order : {2, 4, 6, 8}) {
        attention_of(kBenchmarkRows, 16, 8, order);
        attention_of(kBenchmarkRows, 32, 8, order);
      }
      attention_of(kBenchmarkRows, 64, 8, 6);
      for (int value_dim : {16, 32}) {
        attention_of(kBenchmarkRows, 16, value_dim, 4);
        attention_of(kBenchmarkRows, 16, value_dim, 6);
      }
      break;
  }
}

}  // namespace m5::kernels
