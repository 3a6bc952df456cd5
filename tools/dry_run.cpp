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

DryRun::DryRun(const CommonOptions& options, const Session& session, std::int64_t once_rows)
    : options_(options),
      session_(session),
      sample_rows_(kSampleRows * session.threads()),
      once_rows_(once_rows) {}

void DryRun::Sample::add(const TokenView& view, std::int64_t most_rows, bool one_context) {
  const std::int64_t wanted = std::min(view.length, most_rows - rows);
  if (wanted <= 0) return;
  const std::vector<Token>& copy = tokens.emplace_back(view.tokens, view.tokens + wanted);
  TokenView& part = views.emplace_back(view);
  part.tokens = copy.data();
  part.length = wanted;
  part.context = one_context ? 0 : static_cast<std::int64_t>(views.size()) - 1;
  rows += wanted;
}

DryRun::Kind& DryRun::kind_of(const TokenView& view) {
  return kinds_[view.length >= kLongRecord ? 1 : 0];
}

void DryRun::add(const InputBatch& batch, std::uint64_t memory, int passes) {
  records_ += static_cast<std::int64_t>(batch.records.size());
  rows_ += batch.rows;
  model_rows_ += batch.rows * passes;
  memory_ = std::max(memory_, memory);
  device_memory_ = std::max(
      device_memory_, session_.device_memory_needed(batch.rows, batch.contexts,
                                                    static_cast<std::int64_t>(batch.views.size())));
  for (const TokenView& view : batch.views) {
    Kind& kind = kind_of(view);
    kind.rows += view.length;
    kind.model_rows += view.length * passes;
    kind.sample.add(view, sample_rows_, options_.context == "file");
  }
}

void DryRun::add_once(const InputBatch& batch) {
  for (const TokenView& view : batch.views) {
    Kind& kind = kind_of(view);
    kind.once_rows += view.length;
    kind.once.add(view, once_rows_, options_.context == "file");
  }
}

double DryRun::seconds_per_row(const Sample& sample, const Pass& one_pass) {
  // The first run also makes things ready; a part of the sample is enough for that.
  one_pass(std::span(sample.views).first((sample.views.size() + 7) / 8));
  double seconds = 0;
  std::int64_t rows = 0;
  while (seconds < kLeastSeconds && rows < 64 * sample.rows) {
    seconds += seconds_of([&] { one_pass(sample.views); });
    rows += sample.rows;
  }
  return seconds / static_cast<double>(rows);
}

void DryRun::print(const Pass& one_pass, const Pass& once) const {
  double seconds = 0;
  for (const Kind& kind : kinds_) {
    if (kind.rows > 0) {
      seconds += seconds_per_row(kind.sample, one_pass) * static_cast<double>(kind.model_rows);
    }
    if (!once || kind.once.rows == 0) continue;
    seconds += seconds_of([&] { once(kind.once.views); }) * static_cast<double>(kind.once_rows) /
               static_cast<double>(kind.once.rows);
  }
  const MemoryLimit limit = memory_limit(options_.max_memory);
  std::printf("device\t%s\n", session_.device_name().c_str());
  std::printf("threads\t%d\n", session_.threads());
  std::printf("records\t%lld\n", static_cast<long long>(records_));
  std::printf("rows\t%lld\n", static_cast<long long>(rows_));
  std::printf("rows_through_the_model\t%lld\n", static_cast<long long>(model_rows_));
  std::printf("memory_bytes\t%llu\n", static_cast<unsigned long long>(memory_));
  const std::uint64_t device_available = session_.device_memory_available();
  if (device_memory_ > 0) {
    std::printf("device_memory_bytes\t%llu\n", static_cast<unsigned long long>(device_memory_));
    std::printf("device_memory_available_bytes\t%llu\n",
                static_cast<unsigned long long>(device_available));
  }
  std::printf("memory_available_bytes\t%llu\n", static_cast<unsigned long long>(limit.bytes));
  std::printf("memory_fits\t%s\n",
              fits(memory_, limit) && device_memory_ <= device_available ? "yes" : "no");
  std::printf("expected_seconds\t%.1f\n", seconds);
}

}  // namespace m5
