#include "tools/run_memory.hpp"

#include <algorithm>

#include "base/log.hpp"
#include "base/memory.hpp"
#include "base/system.hpp"

namespace m5 {
namespace {

// Touched only when the model runs: pages of the program and its libraries, kernels that oneDNN
// generates; and of each thread, its stack and the memory of its products.
constexpr std::int64_t kLate = 3'200'000, kWorker = 300'000;

// The same of the backward pass, and of files that are written in the end.
constexpr std::int64_t kTraining = 6'000'000;
// Of a record, what holds its results, and what the allocator cannot give to another thread.
constexpr std::uint64_t kResult = 128;

}  // namespace

RunMemory::RunMemory(const Session& session)
    : session_(session),
      held_(static_cast<std::uint64_t>(held_memory(session.threads(), false))),
      peak_(static_cast<std::uint64_t>(peak_rss_bytes())) {}

std::uint64_t RunMemory::model(std::int64_t rows, std::int64_t contexts,
                               std::int64_t sequences) const {
  const std::uint64_t pass =
      session_.memory_needed(rows, contexts, sequences) - session_.memory_needed(0, 0);
  return held_ + pass + pass / 64;  // what malloc adds, and keeps
}

std::uint64_t RunMemory::with(const InputBatch& batch, std::uint64_t more) const {
  std::uint64_t records = 0;  // and what the allocator adds
  for (const InputRecord& record : batch.records) {
    records += sizeof(InputRecord) + sizeof(TokenView) + heap_memory(record.file.size()) +
               heap_memory(record.name.size()) + heap_memory(record.label.size()) +
               heap_memory(record.tokens.size()) + kResult;
  }
  // This one's, the one's before, and of the next one the letters, too.
  const std::uint64_t input = 3 * records + static_cast<std::uint64_t>(batch.rows);
  return std::max(
      peak_, model(batch.rows, batch.contexts, static_cast<std::int64_t>(batch.records.size())) +
                 input + batch.names_memory + more);
}

void RunMemory::check(const std::string& what, std::int64_t rows) const {
  require_memory(model(rows, 1, 1), what);
}

std::int64_t held_memory(int threads, bool training) {
  return rss_bytes() + kLate + (training ? kTraining : 0) + kWorker * threads;
}

void log_memory() {
  log_detail("memory: " + std::to_string(expected_memory()) + " bytes expected, " +
             std::to_string(peak_rss_bytes()) + " used");
}

}  // namespace m5
