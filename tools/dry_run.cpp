#include "tools/dry_run.hpp"

#include <algorithm>
#include <chrono>
#include <cstdio>

#include "base/memory.hpp"

namespace m5 {

namespace {

constexpr std::int64_t kLongRecord = 2048;      // rows; a tile of the encoder
constexpr std::int64_t kSampleRows = 8 * 2048;  // a thread, so that all have work
constexpr double kLeastSeconds = 0.4;           // of a measurement

double seconds_of(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

DryRun::DryRun(const CommonOptions& options, const Session& session)
    : options_(options), session_(session), sample_rows_(kSampleRows * session.threads()) {}

void DryRun::add(const InputBatch& batch, std::uint64_t memory, int passes) {
  records_ += static_cast<std::int64_t>(batch.records.size());
  rows_ += batch.rows;
  model_rows_ += batch.rows * passes;
  memory_ = std::max(memory_, memory);
  for (const TokenView& view : batch.views) {
    Kind& kind = kinds_[view.length >= kLongRecord ? 1 : 0];
    kind.rows += view.length * passes;
    const std::int64_t wanted = std::min(view.length, sample_rows_ - kind.sample_rows);
    if (wanted <= 0) continue;
    const std::vector<Token>& copy = kind.sample.emplace_back(view.tokens, view.tokens + wanted);
    TokenView& sample = kind.views.emplace_back(view);
    sample.tokens = copy.data();
    sample.length = wanted;
    sample.context =
        options_.context == "file" ? 0 : static_cast<std::int64_t>(kind.views.size()) - 1;
    kind.sample_rows += wanted;
  }
}

double DryRun::seconds_per_row(const Kind& kind, const Pass& one_pass) {
  // The first run also makes things ready; a part of the sample is enough for that.
  one_pass(std::span(kind.views).first((kind.views.size() + 7) / 8));
  double seconds = 0;
  std::int64_t rows = 0;
  while (seconds < kLeastSeconds && rows < 64 * kind.sample_rows) {
    seconds += seconds_of([&] { one_pass(kind.views); });
    rows += kind.sample_rows;
  }
  return seconds / static_cast<double>(rows);
}

void DryRun::print(const Pass& one_pass) const {
  double seconds = 0;
  for (const Kind& kind : kinds_) {
    if (kind.rows == 0) continue;
    seconds += seconds_per_row(kind, one_pass) * static_cast<double>(kind.rows);
  }
  const MemoryLimit limit = memory_limit(options_.max_memory);
  std::printf("device\t%s\n", session_.device_name().c_str());
  std::printf("threads\t%d\n", session_.threads());
  std::printf("records\t%lld\n", static_cast<long long>(records_));
  std::printf("rows\t%lld\n", static_cast<long long>(rows_));
  std::printf("rows_through_the_model\t%lld\n", static_cast<long long>(model_rows_));
  std::printf("memory_bytes\t%llu\n", static_cast<unsigned long long>(memory_));
  std::printf("memory_available_bytes\t%llu\n", static_cast<unsigned long long>(limit.bytes));
  std::printf("memory_fits\t%s\n", fits(memory_, limit) ? "yes" : "no");
  std::printf("expected_seconds\t%.1f\n", seconds);
}

}  // namespace m5
