// m5 bench attention: the polynomial attention of one layer against exact softmax, on real queries,
// keys and values, beside the error that is proved.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/log.hpp"
#include "base/memory.hpp"
#include "base/random.hpp"
#include "data/genome_store.hpp"
#include "kernels/backend.hpp"
#include "m5/error.hpp"
#include "nn/device.hpp"
#include "nn/encoder.hpp"
#include "tools/bench_report.hpp"

namespace m5 {
namespace {

using Backend = kernels::Backend<float>;

constexpr std::uint64_t kSeed = 1;
constexpr std::int64_t kSlabs = 64;  // parts of the sums, whatever the number of threads

// The rounding of fp32 that comes on top of the polynomial's error: the feature products of a
// weight have both signs and reach exp(R) each, the weight itself may be as small as exp(-R).
double rounding_allowance(const ModelConfig& c) { return std::exp(2 * c.bound) * 0x1p-21; }

// The greater one, and NaN if either is: std::max would lose it.
double greater(double a, double b) { return b > a || std::isnan(b) ? b : a; }

// Sums over keys: of the state, and, for the sampled queries, of exact softmax.
struct Sums {
  std::vector<double> state;       // [F][C][H]
  std::vector<double> exact;       // [queries][C][H]: sum of exp(q.k) v, then of exp(q.k)
  std::vector<double> polynomial;  // the same with the polynomial P(q.k) for exp, in double
  std::vector<double> v_max;       // [H]: max over rows and components of |v|
  double score_max = 0;            // max |q.k|
};

// One attention layer, its input as the encoder computes it.
class LayerProbe {
 public:
  LayerProbe(const Model& model, Backend& backend, int layer)
      : config_(model.config), table_(model.config), backend_(backend), layer_(layer) {
    const LayerOffsets& at = table_.layers[static_cast<std::size_t>(layer)];
    parameters_ = kernels::Buffer<float>(backend, model.parameters.size());
    std::copy(model.parameters.begin(), model.parameters.end(), parameters_.data());
    shape_ = kernels::attention_shape(config_);
    query_ = backend.make_linear(config_.dim, query_columns(), Backend::kForward);
    key_value_ = backend.make_linear(config_.dim, key_value_columns(), Backend::kForward);
    backend.pack(*query_, parameters_.data() + at.query, nullptr);
    backend.pack(*key_value_, parameters_.data() + at.key_value, nullptr);
  }

  int query_columns() const { return kKeyDim * config_.heads; }
  int key_value_columns() const { return (kKeyDim + config_.value_dim()) * config_.heads; }
  const kernels::AttentionShape& shape() const { return shape_; }

  // What the layer's attention reads, normed, of rows [from, from + n); x: [rows][d], the residual
  // stream that enters the layer.
  void normed_rows(int worker, const std::vector<float>& x, std::int64_t from, int n,
                   float* normed) const {
    const LayerOffsets& at = table_.layers[static_cast<std::size_t>(layer_)];
    const std::int64_t d = config_.dim, rows = static_cast<std::int64_t>(x.size()) / d;
    const float* input = x.data() + from * d;
    std::vector<float> after, window;
    if (config_.has_conv(layer_)) {
      const LocalConv& conv = config_.local_conv[static_cast<std::size_t>(layer_)];
      const std::int64_t halo = (conv.width - 1) / 2 * conv.dilation;
      window.assign(static_cast<std::size_t>((n + 2 * halo) * d), 0.0f);  // zero past the ends
      const std::int64_t first = std::max<std::int64_t>(0, from - halo);
      const std::int64_t last = std::min(rows, from + n + halo);
      backend_.norm(worker, static_cast<int>(last - first), config_.dim, config_.norm_epsilon,
                    x.data() + first * d, parameters_.data() + at.conv_norm,
                    window.data() + (first - (from - halo)) * d);
      after.assign(input, input + n * d);
      backend_.local_conv(worker, n, config_.dim, conv.width, conv.dilation, window.data(),
                          parameters_.data() + at.conv_weight, false, after.data());
      input = after.data();
    }
    backend_.norm(worker, n, config_.dim, config_.norm_epsilon, input,
                  parameters_.data() + at.attention_norm, normed);
  }

  // Bounded queries [n][4][H].
  void queries(int worker, int n, const float* normed, float* q) const {
    backend_.linear(worker, *query_, n, normed, q, Backend::Then::kStore);
    backend_.bound(worker, shape_, n, query_columns(), q, q);
  }
  // Bounded keys [4][H], then values [dv][H], by row.
  void keys_and_values(int worker, int n, const float* normed, float* kv) const {
    backend_.linear(worker, *key_value_, n, normed, kv, Backend::Then::kStore);
    backend_.bound(worker, shape_, n, key_value_columns(), kv, kv);
  }

 private:
  const ModelConfig& config_;
  ParameterTable table_;
  Backend& backend_;
  int layer_;
  kernels::AttentionShape shape_;
  kernels::Buffer<float> parameters_;
  std::unique_ptr<kernels::Linear<float>> query_, key_value_;
};

// Adds n keys to the exact sums of all queries, in double. |q.k| < R: no maximum to subtract.
void add_exact(const ModelConfig& c, const std::vector<float>& q, const float* kv, int n,
               Sums& sums) {
  const std::size_t heads = static_cast<std::size_t>(c.heads);
  const std::size_t dv = static_cast<std::size_t>(c.value_dim()), stride = (kKeyDim + dv) * heads;
  const std::size_t queries = q.size() / (kKeyDim * heads);
  std::vector<double> weight(heads), polynomial(heads);
  const auto add = [&](const std::vector<double>& w, const float* v, double* sum) {
    for (std::size_t col = 0; col < dv; ++col) {
      for (std::size_t h = 0; h < heads; ++h) {
        sum[col * heads + h] += w[h] * static_cast<double>(v[col * heads + h]);
      }
    }
    for (std::size_t h = 0; h < heads; ++h) sum[dv * heads + h] += w[h];
  };
  for (std::size_t i = 0; i < static_cast<std::size_t>(n); ++i) {
    const float* k = kv + i * stride;
    const float* v = k + kKeyDim * heads;
    for (std::size_t c_h = 0; c_h < dv * heads; ++c_h) {
      double& most = sums.v_max[c_h % heads];
      most = greater(most, std::abs(static_cast<double>(v[c_h])));
    }
    for (std::size_t j = 0; j < queries; ++j) {
      const float* query = q.data() + j * kKeyDim * heads;
      for (std::size_t h = 0; h < heads; ++h) {
        double score = 0;
        for (std::size_t e = 0; e < kKeyDim; ++e) {
          score +=
              static_cast<double>(query[e * heads + h]) * static_cast<double>(k[e * heads + h]);
        }
        sums.score_max = greater(sums.score_max, std::abs(score));
        weight[h] = std::exp(score);
        double p = 0;
        for (std::size_t e = c.coefficients.size(); e-- > 0;) p = p * score + c.coefficients[e];
        polynomial[h] = p;
      }
      add(weight, v, sums.exact.data() + j * (dv + 1) * heads);
      add(polynomial, v, sums.polynomial.data() + j * (dv + 1) * heads);
    }
  }
}

struct Outcome {
  double observed = 0, mean = 0;  // against softmax
  double rounding = 0;            // against the same polynomial, summed in double
  double score_max = 0;
};

Outcome probe(const Model& model, Backend& backend, Encoder<float>& encoder, int layer,
              const std::vector<Token>& genome, int sampled) {
  const ModelConfig& c = model.config;
  const std::int64_t rows = static_cast<std::int64_t>(genome.size()), d = c.dim;
  const LayerProbe attention(model, backend, layer);
  const kernels::AttentionShape& shape = attention.shape();

  std::vector<float> x(static_cast<std::size_t>(rows * d));
  const TokenView view{genome.data(), rows, false, 0};
  encoder.hidden(std::span(&view, 1), layer, [&](std::int64_t first, int n, const float* values) {
    std::copy_n(values, n * d, x.data() + first * d);
  });

  // One query in each of `sampled` equal stretches of the sequence.
  const std::int64_t queries = std::min<std::int64_t>(rows, sampled);
  const auto query_size = static_cast<std::size_t>(attention.query_columns());
  std::vector<float> q(static_cast<std::size_t>(queries) * query_size);
  backend.for_tiles(queries, [&](int worker, std::int64_t i) {
    // Blocks given to products have room for kRunRows rows: a backend may round their number up.
    std::vector<float> normed(static_cast<std::size_t>(kernels::kRunRows * d));
    std::vector<float> one(kernels::kRunRows * query_size);
    const std::int64_t from = i * rows / queries, to = (i + 1) * rows / queries;
    const auto in =
        uniform_below(kSeed, static_cast<std::uint64_t>(i), static_cast<std::uint64_t>(to - from));
    attention.normed_rows(worker, x, from + static_cast<std::int64_t>(in), 1, normed.data());
    attention.queries(worker, 1, normed.data(), one.data());
    std::copy_n(one.data(), query_size, q.data() + static_cast<std::size_t>(i) * query_size);
  });

  const std::int64_t tiles = (rows + kernels::kTileRows - 1) / kernels::kTileRows;
  const std::int64_t slabs = std::min(kSlabs, tiles);
  const auto exact_size =
      static_cast<std::size_t>(queries) * static_cast<std::size_t>(shape.columns() * shape.heads);
  std::vector<Sums> parts(static_cast<std::size_t>(slabs));
  backend.for_tiles(slabs, [&](int worker, std::int64_t slab) {
    Sums& sums = parts[static_cast<std::size_t>(slab)];
    sums.state.assign(static_cast<std::size_t>(shape.state_size()), 0.0);
    sums.exact.assign(exact_size, 0.0);
    sums.polynomial.assign(exact_size, 0.0);
    sums.v_max.assign(static_cast<std::size_t>(shape.heads), 0.0);
    const int block = kernels::kRunRows, stride = attention.key_value_columns();
    std::vector<float> h(static_cast<std::size_t>(block * d));
    std::vector<float> kv(static_cast<std::size_t>(block) * static_cast<std::size_t>(stride));
    const std::int64_t end = std::min(rows, (slab + 1) * tiles / slabs * kernels::kTileRows);
    for (std::int64_t row = slab * tiles / slabs * kernels::kTileRows; row < end; row += block) {
      const int n = static_cast<int>(std::min<std::int64_t>(block, end - row));
      attention.normed_rows(worker, x, row, n, h.data());
      attention.keys_and_values(worker, n, h.data(), kv.data());
      backend.attention_accumulate(worker, shape, n, kv.data(), stride,
                                   kv.data() + kKeyDim * shape.heads, stride, true,
                                   sums.state.data());
      add_exact(c, q, kv.data(), n, sums);
    }
  });
  Sums& total = parts[0];
  for (std::size_t s = 1; s < parts.size(); ++s) {
    const auto add = [](std::vector<double>& to, const std::vector<double>& from) {
      for (std::size_t i = 0; i < to.size(); ++i) to[i] += from[i];
    };
    add(total.state, parts[s].state);
    add(total.exact, parts[s].exact);
    add(total.polynomial, parts[s].polynomial);
    for (std::size_t h = 0; h < total.v_max.size(); ++h) {
      total.v_max[h] = greater(total.v_max[h], parts[s].v_max[h]);
    }
    total.score_max = greater(total.score_max, parts[s].score_max);
  }

  kernels::Buffer<float> scaled(backend, total.state.size());
  backend.attention_scale(shape, total.state.data(), scaled.data());
  const auto heads = static_cast<std::size_t>(shape.heads);
  const auto dv = static_cast<std::size_t>(shape.value_dim);
  std::vector<float> o(dv * heads), weight(heads);
  Outcome outcome;
  outcome.score_max = total.score_max;
  for (std::size_t i = 0; i < static_cast<std::size_t>(queries); ++i) {
    backend.attention_query(0, shape, 1, q.data() + i * query_size, attention.query_columns(),
                            scaled.data(), o.data(), weight.data());
    const auto at = static_cast<std::ptrdiff_t>(i * (dv + 1) * heads);
    for (std::size_t h = 0; h < heads; ++h) {
      // Largest difference of a component from the quotient of the sums, relative to max |v|.
      const auto distance = [&](const std::vector<double>& sums) {
        const double* sum = sums.data() + at;
        double most = 0;
        for (std::size_t col = 0; col < dv; ++col) {
          const double quotient = sum[col * heads + h] / sum[dv * heads + h];
          most = greater(most, std::abs(static_cast<double>(o[col * heads + h]) - quotient));
        }
        return most / std::max(total.v_max[h], std::numeric_limits<double>::min());
      };
      const double error = distance(total.exact);
      outcome.rounding = greater(outcome.rounding, distance(total.polynomial));
      // An infinite |v| would make every error 0.
      if (!std::isfinite(error) || !std::isfinite(outcome.rounding) ||
          !std::isfinite(total.v_max[h]) || !std::isfinite(total.score_max)) {
        throw Error(ErrorKind::kNumeric, "the attention of head " + std::to_string(h) +
                                             " is not finite at " + with_commas(rows) + " nt");
      }
      outcome.observed = greater(outcome.observed, error);
      outcome.mean += error / static_cast<double>(heads * static_cast<std::size_t>(queries));
    }
  }
  return outcome;
}

// The sequence of all records of the files, end to end, repeated or cut to `length`.
std::vector<Token> tiled(const std::vector<Token>& source, std::int64_t length) {
  std::vector<Token> tokens(static_cast<std::size_t>(length));
  for (std::size_t i = 0; i < tokens.size(); ++i) tokens[i] = source[i % source.size()];
  return tokens;
}

}  // namespace

int bench_attention(int argc, char** argv) {
  BenchOptions options;
  std::string lengths = "1k,4k,16k,64k,256k,1M,2M";
  std::vector<std::string> files;
  int layer = 0, queries = 64;
  CLI::App app;
  prepare_app(
      app, "bench attention",
      "Compares the attention of one layer with exact softmax, which is computed in double "
      "for sampled queries against all keys. The error of a query and head is the largest "
      "difference of a component, relative to the largest |v| of the head; beside it stands "
      "the bound that holds at any length, 2 eps / (1 - eps). The rounding error is the same "
      "difference from the polynomial the model uses, summed in double. Exit status 7 if either "
      "is too large.");
  app.add_option("FILE", files,
                 "sequences to take queries, keys and values from, repeated or cut to each length "
                 "(default: a random sequence)");
  app.add_option("--lengths", lengths, "sequence lengths in nt (default " + lengths + ")")
      ->option_text("SIZE[,SIZE...]");
  app.add_option("--layer", layer, "layer, from 0 (default)")->option_text("INT");
  app.add_option("--queries", queries, "queries to sample (default 64)")
      ->option_text("INT")
      ->check(CLI::Range(1, 1 << 20));
  add_threads(app, options.common);
  add_input(app, options.common);
  add_bench_options(app, options);
  if (!parse_bench(app, argc, argv, options)) return 0;
  const std::vector<std::int64_t> sizes = parse_lengths(lengths, false);
  check_bench_paths(options, files);

  const Model model = bench_model(options);
  const ModelConfig& c = model.config;
  if (layer < 0 || layer >= c.layers) {
    throw Error(ErrorKind::kUsage,
                "--layer: must be 0 to " + std::to_string(c.layers - 1) + " for this model");
  }
  GenomeStore store;
  if (!files.empty()) {
    store = load_genomes(
        files, {.rule = Topology::Rule::kLinear},
        {.skip_empty = options.common.skip_empty, .allow_no_eof = options.common.allow_no_eof});
  }
  const auto device = make_device({.threads = options.common.threads});
  Backend& host = device->host();
  Encoder<float> encoder(host, device->make_sweeps(c, {}));
  encoder.set_parameters(model.parameters.data());

  BenchReport report;
  describe_run(report, "m5 bench" + provenance_command(argc, argv).substr(2), model);
  const double bound = c.attention_error_bound(), allowance = rounding_allowance(c);
  report.meta["device"] = device->name();
  report.meta["threads"] = host.workers();
  report.meta["layer"] = layer;
  report.meta["order"] = c.order;
  report.meta["bound_R"] = c.bound;
  report.meta["polynomial_error"] = c.approximation_error();
  report.meta["proved_bound"] = bound;
  report.meta["fp32_allowance"] = allowance;
  report.meta["queries"] = queries;
  report.meta["sequence"] = files.empty() ? std::string("random, seed 1") : files[0];
  report.meta["error_definition"] =
      "max over sampled queries and heads of max_c |o_c - softmax_c| / max_jc |v_jc|";
  bool pass = true;
  for (const std::int64_t length : sizes) {
    log_detail(with_commas(length) + " nt");
    require_more_memory(encoder.pass_memory(length, 1, 1).host +
                            static_cast<std::uint64_t>(length * c.dim) * sizeof(float),
                        with_commas(length) + " nt");
    const std::vector<Token> genome =
        files.empty() ? random_genome(length, kSeed) : tiled(store.tokens, length);
    const Outcome outcome = probe(model, host, encoder, layer, genome, queries);
    const bool holds = outcome.observed <= bound + allowance && outcome.rounding <= allowance;
    pass = pass && holds;
    report.rows.push_back({{"tokens", length},
                           {"queries", std::min<std::int64_t>(length, queries)},
                           {"observed_max_relative_error", outcome.observed},
                           {"observed_mean_relative_error", outcome.mean},
                           {"bound", bound},
                           {"max_rounding_error", outcome.rounding},
                           {"max_abs_score", outcome.score_max},
                           {"result", holds ? "PASS" : "FAIL"}});
  }
  report.meta["result"] = pass ? "PASS" : "FAIL";
  report.write(options.common.output,
               {{"tokens"},
                {"queries"},
                {"observed_max_relative_error", 4},
                {"observed_mean_relative_error", 4},
                {"bound", 4},
                {"max_rounding_error", 4},
                {"max_abs_score", 3},
                {"result"}},
               options.json);
  if (!pass) {
    throw Error(
        ErrorKind::kNumeric,
        "the attention is further from softmax than its proved bound, or from its own polynomial "
        "than fp32 rounding allows");
  }
  return 0;
}

}  // namespace m5
