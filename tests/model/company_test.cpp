// Every record's values are those of the record alone, to the bit: whatever came with it, however
// many workers there are and however many rows they hold at a time.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>

#include "m5/error.hpp"
#include "model_util.hpp"
#include "nn/pooling.hpp"

namespace m5 {
namespace {

using Values = std::vector<float>;
using Model = TestModel<float>;

// What `m5 score` and `m5 embed --per base, record, window` take from the model for one record.
struct Result {
  Values log_probs, bases, record, windows;
  bool operator==(const Result&) const = default;
};

constexpr std::int64_t kWindow = 300, kStep = 170;

// Results of one call for all records, in their order.
std::vector<Result> results(Model& model, const std::vector<TokenView>& batch, int layer) {
  const auto dim = static_cast<int>(model.dim);
  std::vector<PoolInterval> intervals;  // of every record, the whole and its windows
  std::vector<std::size_t> first_interval;
  for (std::size_t s = 0; s < batch.size(); ++s) {
    const auto sequence = static_cast<std::int64_t>(s);
    first_interval.push_back(intervals.size());
    intervals.push_back({sequence, 0, batch[s].length});
    for (std::int64_t begin = 0; begin < batch[s].length; begin += kStep) {
      intervals.push_back({sequence, begin, std::min(begin + kWindow, batch[s].length)});
    }
  }
  first_interval.push_back(intervals.size());
  Pooler pooler(batch, intervals, dim, Pool::kMean);
  Values bases;  // as they are written: in order
  RowOrder order(dim, 1'000'000, [&](std::int64_t, int n, const float* values) {
    bases.insert(bases.end(), values, values + std::int64_t{n} * dim);
  });
  model.encoder.hidden(batch, layer, [&](std::int64_t first, int n, const float* values) {
    pooler.add(first, n, values);
    order.add(first, n, values);
  });
  const Values log_probs = model.log_probs(batch);

  std::vector<Result> all;
  std::int64_t row = 0;
  for (std::size_t s = 0; s < batch.size(); ++s) {
    const auto rows = [&](const Values& of, std::int64_t per_row) {
      return Values(of.begin() + row * per_row, of.begin() + (row + batch[s].length) * per_row);
    };
    Result r{rows(log_probs, 4), rows(bases, dim), Values(static_cast<std::size_t>(dim)), {}};
    pooler.result(first_interval[s], r.record.data());
    for (std::size_t i = first_interval[s] + 1; i < first_interval[s + 1]; ++i) {
      r.windows.resize(r.windows.size() + static_cast<std::size_t>(dim));
      pooler.result(i, r.windows.data() + r.windows.size() - static_cast<std::size_t>(dim));
    }
    all.push_back(std::move(r));
    row += batch[s].length;
  }
  return all;
}

struct Run {
  int block, threads;
};

// Records of these lengths in one call for each of the runs, against one call a record.
void expect_as_alone(const ModelConfig& config, const std::vector<double>& parameters,
                     const std::vector<std::int64_t>& lengths, int layer, bool bf16,
                     const std::vector<Run>& runs) {
  const auto model = [&](int threads, int block) {
    return Model(config, parameters, kernels::make_cpu_backend({.threads = threads, .bf16 = bf16}),
                 false, block);
  };
  std::vector<std::vector<Token>> records;
  std::vector<TokenView> batch;
  std::vector<Result> alone;
  Model one = model(1, 256);
  for (std::size_t i = 0; i < lengths.size(); ++i) {
    records.push_back(random_tokens(lengths[i], static_cast<unsigned>(i)));
    TokenView record = view(records.back(), i % 3 == 0);
    alone.push_back(results(one, {record}, layer).front());
    record.context = static_cast<std::int64_t>(i);
    batch.push_back(record);
  }
  for (const Run& run : runs) {
    Model many = model(run.threads, run.block);
    const std::vector<Result> together = results(many, batch, layer);
    for (std::size_t i = 0; i < lengths.size(); ++i) {
      ASSERT_TRUE(together[i] == alone[i])
          << "record " << i << " of " << lengths[i] << " nt, " << run.threads << " threads, block "
          << run.block << (bf16 ? ", bf16" : ", fp32") << ", layer " << layer;
    }
  }
}

// `count` lengths from 1 to 7,000, short ones more often, as contigs of a draft are.
std::vector<std::int64_t> mixed_lengths(int count) {
  std::vector<std::int64_t> lengths;
  for (int i = 0; i < count; ++i) {
    const std::int64_t most = i % 10 == 0 ? 7000 : i % 3 == 0 ? 700 : 120;
    lengths.push_back(1 + i * std::int64_t{7919} % most);
  }
  return lengths;
}

TEST(Company, AnyNumberOfRecordsOfAnyLength) {
  const std::vector<std::vector<std::int64_t>> cases = {
      {1},
      {7000},
      std::vector<std::int64_t>(20, 150),
      std::vector<std::int64_t>(100, 100),
      std::vector<std::int64_t>(9, 1000),
      std::vector<std::int64_t>(30, 128),
      {1, 127, 129, 255, 257, 2047, 2048, 2049, 3, 383, 640, 4097, 1},
      std::vector<std::int64_t>(200, 1),
      mixed_lengths(60),
  };
  for (const ModelConfig& config :
       {tiny_config(16, 2, 4), tiny_config(16, 2, 4, {{5, 1}, {5, 40}})}) {
    const std::vector<double> parameters = random_parameters(config, 3);
    for (const auto& lengths : cases) {
      for (const int layer : {1, 2}) {
        expect_as_alone(config, parameters, lengths, layer, layer == 1,
                        {{128, 1}, {256, 2}, {384, 4}, {512, 1}, {1024, 3}, {2048, 2}});
        if (HasFatalFailure()) return;
      }
    }
  }
}

// At the widths people use, where oneDNN and the SIMD kernels choose other code than at small ones.
// CTest runs these on every instruction set too.
void expect_as_alone_at_width(const std::string& preset, const std::vector<std::int64_t>& lengths) {
  ModelConfig config = ModelConfig::preset(preset);
  config.layers = 2;
  config.local_conv.resize(std::min<std::size_t>(config.local_conv.size(), 2));
  const std::vector<double> parameters = random_parameters(config, 4);
  for (const bool bf16 : cpu_precisions()) {
    try {
      expect_as_alone(config, parameters, lengths, 2, bf16, {{128, 3}, {384, 1}, {2048, 2}});
    } catch (const Error& error) {
      if (std::getenv("M5_CPU_ISA") == nullptr || error.kind() != ErrorKind::kUsage) throw;
      GTEST_SKIP() << error.what();
    }
  }
}

TEST(CompanyAtWidth, Nano) { expect_as_alone_at_width("nano", {150, 61, 2177, 300}); }
TEST(CompanyAtWidth, NanoConv) { expect_as_alone_at_width("nano-conv", {150, 61, 2177, 300}); }
TEST(CompanyAtWidth, Small) { expect_as_alone_at_width("small", {150, 61, 700, 257}); }
TEST(CompanyAtWidth, Base) { expect_as_alone_at_width("base", {150, 61, 385}); }

}  // namespace
}  // namespace m5
