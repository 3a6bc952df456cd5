// The rows of the case table: one builder for each operation, then the shapes of each set.
#include <algorithm>
#include <cmath>
#include <utility>

#include "kernels/case_builder.hpp"

namespace m5::kernels {
namespace {

constexpr double kEpsilon = 0.3;  // of the norm: large enough to be seen beside mean(x^2) = 9

// --- rows ------------------------------------------------------------------------------------

Case embed(int n, int dim, int w) {
  Builder t("embed", "d=" + text(dim) + ",w=" + text(w), n, (2.0 * w + 1) * n * dim);
  const int window = t.tokens("window", n + 2 * w, Fill::kTokens);
  const int table = t.input("table", (2 * std::int64_t{w} + 1) * 7 * dim);
  const int bias = t.input("bias", dim);
  const int x = t.output("x", std::int64_t{n} * dim, true);
  t.prepare([=](auto& b, auto& m) -> Run {
    return [=, &b, &m] {
      b.embed(0, n, dim, w, m.bytes(window), m.real(table), m.real(bias), m.real(x));
    };
  });
  return t.c;
}

Case embed_backward(int n, int dim, int w) {
  Builder t("embed_backward", "d=" + text(dim) + ",w=" + text(w), n, (2.0 * w + 2) * n * dim);
  const int window = t.tokens("window", n + 2 * w, Fill::kTokens);
  const int dx = t.input("dx", std::int64_t{n} * dim);
  const std::int64_t size = (2 * std::int64_t{w} + 1) * 7 * dim;
  const int table = t.input("table", size), bias = t.input("bias", dim);
  const int d_table = t.added("d_table", size, false);
  const int d_bias = t.added("d_bias", dim, false);
  t.prepare([=](auto& b, auto& m) -> Run {
    return [=, &b, &m] {
      b.embed_backward(0, n, dim, w, m.bytes(window), m.real(dx), m.real(d_table), m.real(d_bias));
    };
  });
  t.c.loss = [=](DoubleBackend& b, DoubleMemory& m) {
    std::vector<double> x = zeros(std::int64_t{n} * dim);
    b.embed(0, n, dim, w, m.bytes(window), m.real(table), m.real(bias), x.data());
    return dot(m.real(dx), x);
  };
  t.c.gradients = {{table, d_table}, {bias, d_bias}};
  return t.c;
}

Case norm(int n, int dim) {
  Builder t("norm", "d=" + text(dim), n, 4.0 * n * dim);
  const int x = t.input("x", std::int64_t{n} * dim, 3);
  const int gain = t.input("gain", dim);
  const int y = t.output("y", std::int64_t{n} * dim, true);
  t.prepare([=](auto& b, auto& m) -> Run {
    return [=, &b, &m] { b.norm(0, n, dim, kEpsilon, m.real(x), m.real(gain), m.real(y)); };
  });
  return t.c;
}

Case norm_backward(int n, int dim) {
  Builder t("norm_backward", "d=" + text(dim), n, 12.0 * n * dim);
  const std::int64_t size = std::int64_t{n} * dim;
  const int x = t.input("x", size, 3), gain = t.input("gain", dim), dy = t.input("dy", size);
  const int dx = t.added("dx", size, true), d_gain = t.added("d_gain", dim, false);
  t.prepare([=](auto& b, auto& m) -> Run {
    return [=, &b, &m] {
      b.norm_backward(0, n, dim, kEpsilon, m.real(x), m.real(gain), m.real(dy), m.real(dx),
                      m.real(d_gain));
    };
  });
  t.c.loss = [=](DoubleBackend& b, DoubleMemory& m) {
    std::vector<double> y = zeros(size);
    b.norm(0, n, dim, kEpsilon, m.real(x), m.real(gain), y.data());
    return dot(m.real(dy), y);
  };
  t.c.gradients = {{x, dx}, {gain, d_gain}};
  return t.c;
}

// The bits, as numbers.
Case to_bf16(int n, int dim) {
  Builder t("to_bf16", "d=" + text(dim), n, 1.0 * n * dim);
  const std::int64_t size = std::int64_t{n} * dim;
  const int x = t.input("x", size, 100), y = t.output("y", size, true);
  t.prepare([=](auto& b, auto& m) -> Run {
    return [=, &b, &m] {
      std::vector<std::uint16_t> bits(static_cast<std::size_t>(size));
      b.to_bf16(size, m.real(x), bits.data());
      std::copy(bits.begin(), bits.end(), m.real(y));
    };
  });
  return t.c;
}

Case from_bf16(int n, int dim) {
  Builder t("from_bf16", "d=" + text(dim), n, 1.0 * n * dim);
  const std::int64_t size = std::int64_t{n} * dim;
  const int y = t.output("y", size, true);
  t.prepare([=](auto& b, auto& m) -> Run {
    std::vector<std::uint16_t> bits(static_cast<std::size_t>(size));
    // Both signs, from 2^-64 to 2^63 (the squares of the comparison stay finite), any fraction.
    for (std::size_t i = 0; i < bits.size(); ++i) {
      bits[i] = static_cast<std::uint16_t>(0x2000 + i * 40503 % 0x4000 + (i % 2 << 15));
    }
    return [=, &b, &m] { b.from_bf16(size, bits.data(), m.real(y)); };
  });
  return t.c;
}

Case gelu(int n, int dim, double scale) {
  Builder t("gelu", "d=" + text(dim) + (scale > 3 ? ",far" : ""), n, 10.0 * n * dim);
  const std::int64_t size = std::int64_t{n} * dim;
  const int x = t.input("x", size, scale), y = t.output("y", size, true);
  t.prepare([=](auto& b, auto& m) -> Run {
    return [=, &b, &m] { b.gelu(0, size, m.real(x), m.real(y)); };
  });
  return t.c;
}

Case gelu_backward(int n, int dim, double scale, bool in_place) {
  Builder t("gelu_backward",
            "d=" + text(dim) + (scale > 3 ? ",far" : "") + (in_place ? ",in place" : ""), n,
            16.0 * n * dim);
  const std::int64_t size = std::int64_t{n} * dim;
  const int x = t.input("x", size, scale), dy = t.input("dy", size);
  const int dx = in_place ? t.added("dx", size, true) : t.output("dx", size, true);
  t.prepare([=](auto& b, auto& m) -> Run {
    return [=, &b, &m] {
      b.gelu_backward(0, size, m.real(x), m.real(in_place ? dx : dy), m.real(dx));
    };
  });
  if (in_place) return t.c;
  t.c.loss = [=](DoubleBackend& b, DoubleMemory& m) {
    std::vector<double> y = zeros(size);
    b.gelu(0, size, m.real(x), y.data());
    return dot(m.real(dy), y);
  };
  t.c.gradients = {{x, dx}};
  return t.c;
}

Case local_conv(int n, int dim, int width, int dilation) {
  Builder t("local_conv", "d=" + text(dim) + ",width=" + text(width) + ",dil=" + text(dilation), n,
            2.0 * n * dim * width);
  const int window = t.input("window", (n + std::int64_t{width - 1} * dilation) * dim);
  const int weight = t.input("weight", std::int64_t{width} * dim);
  const int y = t.added("y", std::int64_t{n} * dim, true);
  t.prepare([=](auto& b, auto& m) -> Run {
    return [=, &b, &m] {
      b.local_conv(0, n, dim, width, dilation, m.real(window), m.real(weight), false, m.real(y));
    };
  });
  return t.c;
}

// The gradient of the window: the flipped convolution of dy between zeros.
Case local_conv_transposed(int n, int dim, int width, int dilation) {
  const int margin = (width - 1) * dilation, rows = n + margin;
  Builder t("local_conv",
            "d=" + text(dim) + ",width=" + text(width) + ",dil=" + text(dilation) + ",flip", rows,
            2.0 * rows * dim * width);
  const int window = t.input("window", std::int64_t{rows} * dim);
  const int weight = t.input("weight", std::int64_t{width} * dim);
  const int dy = t.input("dy", std::int64_t{n} * dim);
  const int padded = t.derived("padded", (n + 2 * std::int64_t{margin}) * dim);
  const int dx = t.added("dx", std::int64_t{rows} * dim, false);
  t.c.derive = [=](DoubleBackend&, DoubleMemory& m) {
    double* p = m.real(padded);
    std::fill_n(p, (n + 2 * std::int64_t{margin}) * dim, 0.0);
    std::copy_n(m.real(dy), std::int64_t{n} * dim, p + std::int64_t{margin} * dim);
  };
  t.prepare([=](auto& b, auto& m) -> Run {
    return [=, &b, &m] {
      b.local_conv(0, rows, dim, width, dilation, m.real(padded), m.real(weight), true, m.real(dx));
    };
  });
  t.c.loss = [=](DoubleBackend& b, DoubleMemory& m) {
    std::vector<double> y = zeros(std::int64_t{n} * dim);
    b.local_conv(0, n, dim, width, dilation, m.real(window), m.real(weight), false, y.data());
    return dot(m.real(dy), y);
  };
  t.c.gradients = {{window, dx}};
  return t.c;
}

Case local_conv_backward_weight(int n, int dim, int width, int dilation) {
  Builder t("local_conv_backward_weight",
            "d=" + text(dim) + ",width=" + text(width) + ",dil=" + text(dilation), n,
            2.0 * n * dim * width);
  const int window = t.input("window", (n + std::int64_t{width - 1} * dilation) * dim);
  const int dy = t.input("dy", std::int64_t{n} * dim);
  const int weight = t.input("weight", std::int64_t{width} * dim);
  const int d_weight = t.added("d_weight", std::int64_t{width} * dim, false);
  t.prepare([=](auto& b, auto& m) -> Run {
    return [=, &b, &m] {
      b.local_conv_backward_weight(0, n, dim, width, dilation, m.real(window), m.real(dy),
                                   m.real(d_weight));
    };
  });
  t.c.loss = [=](DoubleBackend& b, DoubleMemory& m) {
    std::vector<double> y = zeros(std::int64_t{n} * dim);
    b.local_conv(0, n, dim, width, dilation, m.real(window), m.real(weight), false, y.data());
    return dot(m.real(dy), y);
  };
  t.c.gradients = {{weight, d_weight}};
  return t.c;
}

// --- output head, optimizer --------------------------------------------------------------------

Case head(int n, int dim, double logits) {
  Builder t("head", "d=" + text(dim) + (logits > 2 ? ",far" : ""), n, 8.0 * n * dim);
  const int h = t.input("h", std::int64_t{n} * dim);
  const int weight = t.input("weight", 4 * std::int64_t{dim}, logits / std::sqrt(dim));
  const int bias = t.input("bias", 4);
  const int log_probs = t.output("log_probs", 4 * std::int64_t{n}, true);
  t.prepare([=](auto& b, auto& m) -> Run {
    return [=, &b, &m] {
      b.head(0, n, dim, m.real(h), m.real(weight), m.real(bias), m.real(log_probs));
    };
  });
  return t.c;
}

Case head_backward(int n, int dim) {
  Builder t("head_backward", "d=" + text(dim), n, 16.0 * n * dim);
  const int h = t.input("h", std::int64_t{n} * dim);
  const int weight = t.input("weight", 4 * std::int64_t{dim}, 2 / std::sqrt(dim));
  const int bias = t.input("bias", 4);
  const int d_logits = t.input("d_logits", 4 * std::int64_t{n});
  const int dh = t.output("dh", std::int64_t{n} * dim, true);
  const int d_weight = t.added("d_weight", 4 * std::int64_t{dim}, false);
  const int d_bias = t.added("d_bias", 4, false);
  t.prepare([=](auto& b, auto& m) -> Run {
    return [=, &b, &m] {
      b.head_backward(0, n, dim, m.real(h), m.real(weight), m.real(d_logits), m.real(dh),
                      m.real(d_weight), m.real(d_bias));
    };
  });
  t.c.loss = [=](DoubleBackend&, DoubleMemory& m) {
    double sum = 0;
    for (std::int64_t i = 0; i < n; ++i) {
      for (std::int64_t b = 0; b < 4; ++b) {
        double logit = m.real(bias)[b];
        for (std::int64_t c = 0; c < dim; ++c) {
          logit += m.real(h)[i * dim + c] * m.real(weight)[b * dim + c];
        }
        sum += m.real(d_logits)[i * 4 + b] * logit;
      }
    }
    return sum;
  };
  t.c.gradients = {{h, dh}, {weight, d_weight}, {bias, d_bias}};
  return t.c;
}

Case adamw(int n) {
  Builder t("adamw", "decay", n, 14.0 * n);
  const int gradient = t.add({.name = "gradient", .count = n, .scale = 20, .wide = true});
  const int m1 = t.added("m", n, true), p = t.added("p", n, true);
  // The second moment is a square.
  const int v0 = t.input("v0", n);
  const int v =
      t.add({.name = "v", .count = n, .fill = Fill::kDerived, .output = true, .by_row = true});
  t.c.derive = [=](DoubleBackend&, DoubleMemory& m) {
    for (int i = 0; i < n; ++i) m.real(v)[i] = m.real(v0)[i] * m.real(v0)[i];
  };
  t.prepare([=](auto& b, auto& m) -> Run {
    using B = std::remove_reference_t<decltype(b)>;
    const typename B::AdamW step = {.learning_rate = 0.03,
                                    .beta1 = 0.9,
                                    .beta2 = 0.98,
                                    .epsilon = 0.02,
                                    .weight_decay = 0.05,
                                    .correction1 = 0.271,
                                    .correction2 = 0.0588,
                                    .gradient_scale = 0.05};
    return [=, &b, &m] { b.adamw(n, step, m.wide(gradient), m.real(m1), m.real(v), m.real(p)); };
  });
  return t.c;
}

}  // namespace

std::vector<Case> operation_cases(CaseSet set) {
  std::vector<Case> cases;
  const auto add = [&](Case c) { cases.push_back(std::move(c)); };
  const auto rows_of = [&](int n, int dim, int w) {
    add(embed(n, dim, w));
    add(embed_backward(n, dim, w));
    add(norm(n, dim));
    add(norm_backward(n, dim));
    add(to_bf16(n, dim));
    add(from_bf16(n, dim));
    add(gelu(n, dim, 3));
    add(gelu_backward(n, dim, 3, false));
    // Again and again in place: a benchmark would come to subnormal numbers.
    if (set != CaseSet::kBenchmark) add(gelu_backward(n, dim, 3, true));
    add(head(n, dim, 2));
    add(head_backward(n, dim));
  };
  const auto conv_of = [&](int n, int dim, int width, int dilation) {
    add(local_conv(n, dim, width, dilation));
    add(local_conv_transposed(n, dim, width, dilation));
    add(local_conv_backward_weight(n, dim, width, dilation));
  };
  switch (set) {
    case CaseSet::kCompare:
      for (int n : {1, 2, 3, 127, 128, 129, 300}) {
        rows_of(n, 128, 15);
        rows_of(n, 24, 2);
        rows_of(n, 8, 0);
        conv_of(n, 128, 9, 27);
        conv_of(n, 24, 3, 1);
        add(adamw(n));
      }
      rows_of(5, 40, 1);
      add(gelu(129, 24, 100));  // where exponentials overflow
      add(gelu_backward(129, 24, 100, false));
      add(head(129, 24, 200));
      conv_of(5, 40, 5, 2);
      break;
    case CaseSet::kGradient:
      for (int n : {1, 7}) {
        rows_of(n, 8, 2);
        conv_of(n, 8, 5, 3);
      }
      break;
    case CaseSet::kBenchmark:
      for (int dim : {128, 256, 512}) {
        constexpr int n = kBenchmarkRows;
        rows_of(n, dim, 15);
        conv_of(n, dim, 9, 3);
        add(adamw(n * dim));
      }
      break;
  }
  add_linear_cases(set, cases);
  add_attention_cases(set, cases);
  std::erase_if(cases, [&](const Case& c) { return set == CaseSet::kGradient && !c.loss; });
  return cases;
}

}  // namespace m5::kernels
