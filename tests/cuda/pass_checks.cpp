#include "pass_checks.hpp"

#include <algorithm>
#include <cmath>
#include <tuple>

#include "kernels/cuda/batch.hpp"
#include "kernels/cuda/products.hpp"
#include "kernels/math/minimax.hpp"
#include "kernels/tiled/make_tiled_sweeps.hpp"
#include "nn/encoder.hpp"

namespace m5::kernels::cuda {

ModelConfig config_of(int dim, int heads, int ff, int layers, int order, int window,
                      std::vector<LocalConv> conv) {
  ModelConfig c;
  c.dim = dim;
  c.heads = heads;
  c.ff_dim = ff;
  c.layers = layers;
  c.order = order;
  c.window = window;
  c.local_conv = std::move(conv);
  c.coefficients = minimax_exp(order, c.bound);
  return c;
}

std::vector<PassCase> pass_cases() {
  return {
      {"three sequences, two contexts",
       config_of(16, 8, 32, 2, 4, 3),
       {37, 5, 23},
       {0, 0, 1},
       {false, true, true}},
      {"chunks shorter than a sequence",
       config_of(64, 8, 72, 2, 4, 3),
       {1030, 40, 90},
       {0, 0, 1},
       {true, false, false}},
      {"two blocks of heads", config_of(48, 16, 64, 2, 4, 2), {515, 90}, {0, 1}, {false, true}},
      {"convolutions",
       config_of(64, 8, 40, 3, 4, 3, {{5, 1}, {0, 1}, {3, 9}}),
       {37, 5, 523},
       {0, 0, 1},
       {true, true, false}},
      {"twelve columns a head", config_of(96, 8, 64, 2, 4, 1), {70, 515}, {0, 1}, {false, true}},
      {"order 6", config_of(64, 8, 64, 2, 6, 3), {130, 9}, {0, 1}, {true, false}},
      {"order 8", config_of(16, 8, 64, 1, 8, 0), {65, 9}, {0, 1}, {true, false}},
      {"many short ones",
       config_of(16, 8, 32, 2, 2, 3),
       {9, 1, 30, 8, 4, 17, 5, 2, 3, 44},
       {0, 1, 2, 3, 4, 4, 4, 5, 6, 7},
       {true, false, true, true, false, true, true, true, true, true}},
  };
}

std::vector<PassCase> parts_cases() {
  const auto of = [](const char* name, std::int64_t rows, int ff) {
    return PassCase{name,    config_of(8, 8, ff, 2, 2, 1), {rows}, {0},
                    {false}, round_up(rows, kPieceRows)};
  };
  return {of("parts with more room than states", 2 * kProductRows<float> + 400, 1400),
          of("more parts than one call has", kProductParts * kProductRows<float> + 700, 16)};
}

std::vector<PassCase> fused_cases() {
  return {
      {"fused, 64 columns, convolutions",
       config_of(64, 8, 160, 3, 2, 3, {{5, 1}, {0, 1}, {3, 9}}),
       {513, 20},
       {0, 1},
       {true, false}},
      {"fused, 128 columns", config_of(128, 16, 192, 2, 4, 1), {33, 40}, {0, 1}, {false, true}},
      {"fused, 256 columns", config_of(256, 32, 64, 1, 2, 1), {5, 25}, {0, 1}, {true, true}},
      {"fused, 512 columns", config_of(512, 64, 64, 1, 2, 1), {3, 14}, {0, 1}, {false, true}},
  };
}

std::vector<PassCase> long_cases(std::int64_t rows) {
  const auto of = [&](const char* name, bool poly_a) {
    PassCase c{std::to_string(rows) + " rows, " + name,
               config_of(64, 8, 64, 2, 4, 3),
               {rows},
               {0},
               {false},
               round_up(ceil_div(rows, 5), kPieceRows)};
    c.poly_a = poly_a;
    return c;
  };
  return {of("poly-A", true), of("random", false)};
}

namespace {

struct Case {
  explicit Case(const PassCase& c)
      : config(c.config), values(random_parameters<float>(c.config, 17)) {
    for (std::size_t i = 0; i < c.lengths.size(); ++i) {
      const Token token = c.alike && i % 2 == 1 ? kTokenC : kTokenA;
      tokens.push_back(c.poly_a || c.alike
                           ? std::vector<Token>(static_cast<std::size_t>(c.lengths[i]), token)
                           : random_tokens(c.lengths[i], static_cast<unsigned>(i) + 1));
    }
    for (std::size_t i = 0; i < c.lengths.size(); ++i) {
      batch.push_back({tokens[i].data(), c.lengths[i], c.circular[i], c.contexts[i]});
      rows += c.lengths[i];
    }
    for (std::int64_t row = c.alike ? 0 : 1; row < rows; row += c.alike ? 1 : 3) {
      objective.rows.push_back(row);
      objective.targets.push_back(static_cast<std::uint8_t>(c.alike ? 0 : (row * 7 / 3) % kBases));
      objective.kinds.push_back(static_cast<TargetKind>(c.alike ? 0 : row % 3));
    }
  }

  ModelConfig config;
  std::vector<float> values;
  std::vector<std::vector<Token>> tokens;
  std::vector<TokenView> batch;
  std::int64_t rows = 0;
  Objective objective;
};

template <class T>
void set(Encoder<T>& encoder, const std::vector<float>& values) {
  const std::vector<T> parameters(values.begin(), values.end());
  encoder.set_parameters(parameters.data());
}

// Whether rows [first, first + n) are whole runs of their sequences, as a RowSink is to get them.
bool whole_runs(std::span<const TokenView> batch, std::int64_t first, int n) {
  std::int64_t begin = 0;
  const auto at_run = [&](std::int64_t row, std::int64_t length) {
    const std::int64_t position = row - begin;
    return position <= 0 || position >= length || position % kRunRows == 0;
  };
  for (const TokenView& sequence : batch) {
    if (!at_run(first, sequence.length) || !at_run(first + n, sequence.length)) return false;
    begin += sequence.length;
  }
  return true;
}

struct Results {
  std::vector<double> log_probs, hidden, gradient;
};

template <class T>
Results forward(Encoder<T>& encoder, const Case& c) {
  Results r;
  std::vector<T> p(c.objective.rows.size() * 4);
  encoder.log_probs(c.batch, c.objective.rows, p.data());
  r.log_probs.assign(p.begin(), p.end());
  r.hidden.resize(static_cast<std::size_t>(c.rows * c.config.dim));
  encoder.hidden(c.batch, c.config.layers, [&](std::int64_t first, int n, const T* values) {
    double* rows = r.hidden.data() + first * c.config.dim;
    std::copy_n(values, std::int64_t{n} * c.config.dim, rows);
    if (!whole_runs(c.batch, first, n)) *rows = std::nan("");  // no check accepts it
  });
  return r;
}

// Both encoders of a case, for inference and for training.
template <class T>
class Encoders {
 public:
  Encoders(const Case& c, Backend<T>& host,
           const std::function<std::unique_ptr<Sweeps<T>>(bool training)>& make)
      : case_(c), inference_(host, make(false)), training_(host, make(true)) {
    set(inference_, c.values);
    set(training_, c.values);
    if (c.config.layers > 1) training_.keep_every(2);
  }

  Results run() {
    const Case& c = case_;
    Results r = forward(inference_, c);
    r.gradient = gradient();
    return r;
  }

  std::vector<double> gradient() {
    std::vector<double> sum(case_.values.size(), 0.25);  // it is added to
    training_.loss_and_gradient(case_.batch, case_.objective, 0.5, sum.data());
    for (double& g : sum) g -= 0.25;
    return sum;
  }

 private:
  const Case& case_;
  Encoder<T> inference_, training_;
};

// Beside the greatest number that is expected, or `least` where that is more.
double difference(const double* actual, const double* expected, std::size_t count,
                  double least = 0) {
  double greatest = least, worst = 0;
  for (std::size_t i = 0; i < count; ++i) {
    greatest = std::max(greatest, std::abs(expected[i]));
    const double d = std::abs(actual[i] - expected[i]);
    if (!(d <= worst)) worst = d;  // NaN stays
    if (std::isnan(worst)) return worst;
  }
  return greatest > 0 ? worst / greatest : worst;
}

CudaSetup setup_of(const Case& c, bool bf16, std::int64_t chunk_rows, Backend<float>& host) {
  CudaSetup setup;
  setup.config = c.config;
  setup.bf16 = bf16;
  setup.chunk_rows = chunk_rows;
  setup.host = &host;
  return setup;
}

Encoders<float> on_device(const Case& c, bool bf16, std::int64_t chunk_rows, const MakeSweeps& make,
                          Backend<float>& host) {
  return Encoders<float>(c, host, [&](bool training) {
    CudaSetup setup = setup_of(c, bf16, chunk_rows, host);
    setup.options.training = training;
    return make(setup);
  });
}

}  // namespace

namespace {

// Adds those of one precision.
void compare(const PassCase& pass_case, bool bf16, const Results& actual, const Results& expected,
             std::vector<Check>& checks) {
  const auto check = [&](const std::string& what, const std::vector<double>& a,
                         const std::vector<double>& e, double tolerance) {
    const bool same_size = a.size() == e.size();
    checks.push_back({pass_case.name + (bf16 ? ", bf16: " : ", fp32: ") + what,
                      same_size ? difference(a.data(), e.data(), e.size()) : INFINITY, tolerance});
  };
  check("log_probs", actual.log_probs, expected.log_probs, bf16 ? 0.01 : 1e-5);
  check("hidden", actual.hidden, expected.hidden, bf16 ? 0.03 : 1e-5);
  const ParameterTable table(pass_case.config);
  double keys = 0;  // the greatest number of the gradient of keys and values, which come first
  for (const ParameterSpec& spec : table.specs) {
    const double* const g = expected.gradient.data() + spec.offset;
    if (spec.name.ends_with(".key_value")) {
      keys = 0;
      for (std::int64_t i = 0; i < spec.size; ++i) keys = std::max(keys, std::abs(g[i]));
    }
    // Where values are all alike that of queries is the difference of equal numbers: a rounding of
    // those, whatever its own size.
    const bool rounding = pass_case.poly_a && spec.name.ends_with(".query");
    checks.push_back({pass_case.name + (bf16 ? ", bf16: " : ", fp32: ") + spec.name,
                      difference(actual.gradient.data() + spec.offset, g,
                                 static_cast<std::size_t>(spec.size), rounding ? keys : 0),
                      bf16 ? 0.04 : 2e-5});
  }
}

}  // namespace

std::vector<Check> pass_checks(const PassCase& pass_case, std::initializer_list<bool> bf16,
                               const MakeSweeps& make) {
  const Case c(pass_case);
  const auto host = make_ref_backend<float>();
  const auto oracle = make_ref_backend<double>();
  Encoders<double> exact(c, *oracle, [&](bool training) {
    return make_tiled_sweeps(*oracle, c.config, {.training = training});
  });
  const Results expected = exact.run();
  std::vector<Check> checks;
  for (const bool narrow : bf16) {
    const Results actual = on_device(c, narrow, pass_case.chunk_rows, make, *host).run();
    compare(pass_case, narrow, actual, expected, checks);
  }
  return checks;
}

std::vector<Check> poly_a_checks(std::int64_t rows, bool bf16, const MakeSweeps& make) {
  PassCase pass_case = long_cases(rows).front();
  pass_case.circular = {true};
  pass_case.chunk_rows = round_up(ceil_div(rows, 2), kPieceRows);
  PassCase short_case = pass_case;
  short_case.lengths = {16};
  const Case c(pass_case), few(short_case);
  const auto host = make_ref_backend<float>();
  const auto oracle = make_ref_backend<double>();
  Encoder<float> encoder(*host, make(setup_of(c, bf16, pass_case.chunk_rows, *host)));
  set(encoder, c.values);
  const Results actual = forward(encoder, c);
  Encoder<double> exact(*oracle, make_tiled_sweeps(*oracle, few.config, {}));
  set(exact, few.values);
  const Results expected = forward(exact, few);
  std::vector<Check> checks;
  const auto check = [&](const std::string& what, const std::vector<double>& rows_of, int columns,
                         const std::vector<double>& row, double tolerance) {
    const auto n = static_cast<std::size_t>(columns);
    double worst = 0;
    for (std::size_t at = 0; at < rows_of.size(); at += n) {
      const double d = difference(rows_of.data() + at, row.data(), n);
      if (!(d <= worst)) worst = d;
      if (std::isnan(worst)) break;
    }
    checks.push_back({"circular poly-A, " + std::to_string(rows) +
                          (bf16 ? " rows, bf16: " : " rows, fp32: ") + what,
                      worst, tolerance});
  };
  check("log_probs", actual.log_probs, 4, expected.log_probs, bf16 ? 0.01 : 1e-5);
  check("hidden", actual.hidden, c.config.dim, expected.hidden, bf16 ? 0.03 : 1e-5);
  return checks;
}

std::vector<Check> many_chunks_checks(const MakeSweeps& make) {
  PassCase pass_case{"many chunks", config_of(16, 8, 32, 1, 2, 3), {}, {}, {}};
  pass_case.alike = true;
  // Chunks of 512 rows have up to 4 sequences: 500 chunks of 4 rows.
  pass_case.lengths.assign(2000, 1);
  pass_case.contexts.assign(2000, 0);
  pass_case.circular.assign(2000, false);
  const Case c(pass_case);
  const auto host = make_ref_backend<float>();
  const auto oracle = make_ref_backend<double>();
  Encoders<double> exact(c, *oracle, [&](bool training) {
    return make_tiled_sweeps(*oracle, c.config, {.training = training});
  });
  const std::vector<double> expected = exact.gradient(),
                            actual =
                                on_device(c, false, pass_case.chunk_rows, make, *host).gradient();
  std::vector<Check> checks;
  // What a chunk adds has some roundings to fp32, the same ones in each (seen: 6e-7). With sums
  // that are rounded to fp32 after each chunk all tensors but the head's bias were off by 2.6e-6
  // to 7.4e-6.
  for (const ParameterSpec& spec : ParameterTable(c.config).specs) {
    checks.push_back({pass_case.name + ", fp32: " + spec.name,
                      difference(actual.data() + spec.offset, expected.data() + spec.offset,
                                 static_cast<std::size_t>(spec.size)),
                      2e-6});
  }
  return checks;
}

double run_to_run(const PassCase& pass_case, bool bf16, const MakeSweeps& make, int runs) {
  const Case c(pass_case);
  const auto host = make_ref_backend<float>();
  Encoders<float> encoders = on_device(c, bf16, pass_case.chunk_rows, make, *host);
  const Results first = encoders.run();
  double worst = 0;
  for (int i = 1; i < runs; ++i) {
    const Results again = encoders.run();
    for (const auto& [a, b] :
         {std::tie(again.log_probs, first.log_probs), std::tie(again.hidden, first.hidden),
          std::tie(again.gradient, first.gradient)}) {
      worst = std::max(worst, difference(a.data(), b.data(), b.size()));
    }
  }
  return worst;
}

double company(const PassCase& pass_case, bool bf16, const MakeSweeps& make) {
  const Case c(pass_case);
  const auto host = make_ref_backend<float>();
  const auto log_probs = [&](std::vector<TokenView> batch, std::int64_t chunk_rows) {
    Encoder<float> encoder(*host, make(setup_of(c, bf16, chunk_rows, *host)));
    set(encoder, c.values);
    std::int64_t rows = 0;
    const std::int64_t first = batch.front().context;
    for (TokenView& s : batch) {
      s.context -= first;
      rows += s.length;
    }
    std::vector<std::int64_t> all(static_cast<std::size_t>(rows));
    for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<std::int64_t>(i);
    std::vector<float> p(4 * all.size());
    encoder.log_probs(batch, all, p.data());
    return std::vector<double>(p.begin(), p.end());
  };
  const std::vector<double> all = log_probs(c.batch, pass_case.chunk_rows);
  const std::vector<double> long_chunks = log_probs(c.batch, 4096);
  double worst = difference(long_chunks.data(), all.data(), all.size());
  std::size_t at = 0;
  for (std::size_t s = 0, end = 0; s < c.batch.size(); s = end) {
    std::vector<TokenView> alone;
    for (end = s; end < c.batch.size() && c.batch[end].context == c.batch[s].context; ++end) {
      alone.push_back(c.batch[end]);
    }
    const std::vector<double> p = log_probs(alone, pass_case.chunk_rows);
    worst = std::max(worst, difference(p.data(), all.data() + at, p.size()));
    at += p.size();
  }
  return worst;
}

}  // namespace m5::kernels::cuda
