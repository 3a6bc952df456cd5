#include "pass_checks.hpp"

#include <algorithm>
#include <cmath>
#include <tuple>

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

namespace {

struct Case {
  explicit Case(const PassCase& c)
      : config(c.config), values(random_parameters<float>(c.config, 17)) {
    for (std::size_t i = 0; i < c.lengths.size(); ++i) {
      tokens.push_back(random_tokens(c.lengths[i], static_cast<unsigned>(i) + 1));
    }
    for (std::size_t i = 0; i < c.lengths.size(); ++i) {
      batch.push_back({tokens[i].data(), c.lengths[i], c.circular[i], c.contexts[i]});
      rows += c.lengths[i];
    }
    for (std::int64_t row = 1; row < rows; row += 3) {
      objective.rows.push_back(row);
      objective.targets.push_back(static_cast<std::uint8_t>((row * 7 / 3) % kBases));
      objective.kinds.push_back(static_cast<TargetKind>(row % 3));
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
    Results r;
    std::vector<T> p(c.objective.rows.size() * 4);
    inference_.log_probs(c.batch, c.objective.rows, p.data());
    r.log_probs.assign(p.begin(), p.end());
    r.hidden.resize(static_cast<std::size_t>(c.rows * c.config.dim));
    inference_.hidden(c.batch, c.config.layers, [&](std::int64_t first, int n, const T* values) {
      double* rows = r.hidden.data() + first * c.config.dim;
      std::copy_n(values, std::int64_t{n} * c.config.dim, rows);
      if (!whole_runs(c.batch, first, n)) *rows = std::nan("");  // no check accepts it
    });
    r.gradient.assign(c.values.size(), 0.25);  // it is added to
    training_.loss_and_gradient(c.batch, c.objective, 0.5, r.gradient.data());
    for (double& g : r.gradient) g -= 0.25;
    return r;
  }

 private:
  const Case& case_;
  Encoder<T> inference_, training_;
};

double difference(const double* actual, const double* expected, std::size_t count) {
  double greatest = 0, worst = 0;
  for (std::size_t i = 0; i < count; ++i) {
    greatest = std::max(greatest, std::abs(expected[i]));
    const double d = std::abs(actual[i] - expected[i]);
    if (!(d <= worst)) worst = d;  // NaN stays
    if (std::isnan(worst)) return worst;
  }
  return greatest > 0 ? worst / greatest : worst;
}

Encoders<float> on_device(const Case& c, bool bf16, std::int64_t chunk_rows, const MakeSweeps& make,
                          Backend<float>& host) {
  return Encoders<float>(c, host, [&](bool training) {
    CudaSetup setup;
    setup.config = c.config;
    setup.options.training = training;
    setup.bf16 = bf16;
    setup.chunk_rows = chunk_rows;
    setup.host = &host;
    return make(setup);
  });
}

}  // namespace

std::vector<Check> pass_checks(const PassCase& pass_case, bool bf16, const MakeSweeps& make) {
  const Case c(pass_case);
  const auto host = make_ref_backend<float>();
  const auto oracle = make_ref_backend<double>();
  const Results actual = on_device(c, bf16, pass_case.chunk_rows, make, *host).run();
  Encoders<double> exact(c, *oracle, [&](bool training) {
    return make_tiled_sweeps(*oracle, c.config, {.training = training});
  });
  const Results expected = exact.run();
  std::vector<Check> checks;
  const auto check = [&](const std::string& what, const std::vector<double>& a,
                         const std::vector<double>& e, double tolerance) {
    const bool same_size = a.size() == e.size();
    checks.push_back({pass_case.name + (bf16 ? ", bf16: " : ", fp32: ") + what,
                      same_size ? difference(a.data(), e.data(), e.size()) : INFINITY, tolerance});
  };
  check("log_probs", actual.log_probs, expected.log_probs, bf16 ? 0.01 : 1e-5);
  check("hidden", actual.hidden, expected.hidden, bf16 ? 0.03 : 1e-5);
  const ParameterTable table(c.config);
  for (const ParameterSpec& spec : table.specs) {
    const auto offset = static_cast<std::size_t>(spec.offset);
    checks.push_back({pass_case.name + (bf16 ? ", bf16: " : ", fp32: ") + spec.name,
                      difference(actual.gradient.data() + offset, expected.gradient.data() + offset,
                                 static_cast<std::size_t>(spec.size)),
                      bf16 ? 0.04 : 2e-5});
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
    CudaSetup setup;
    setup.config = c.config;
    setup.bf16 = bf16;
    setup.chunk_rows = chunk_rows;
    setup.host = host.get();
    Encoder<float> encoder(*host, make(setup));
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
