// The memory that m5 score and m5 embed take for a batch: the one sum of all its parts.
#pragma once

#include <cstdint>
#include <string>

#include "m5/session.hpp"
#include "tools/input.hpp"

namespace m5 {

class RunMemory {
 public:
  // Made when all is there that stays: model, session, regions, features.
  explicit RunMemory(const Session& session);

  // Bytes that the process takes at most while this batch is in the model, the next one, taken to
  // be like it, is read, and the one before is written. more: what the command takes beside.
  std::uint64_t with(const InputBatch& batch, std::uint64_t more) const;
  // Throws Error(kResource) if so many rows of one context cannot be.
  void check(const std::string& what, std::int64_t rows) const;

 private:
  std::uint64_t model(std::int64_t rows, std::int64_t contexts, std::int64_t sequences) const;

  const Session& session_;
  std::uint64_t held_;  // now, and what the session will touch later
  std::uint64_t peak_;  // so far
};

// Bytes that the process holds now, and will by running a model with so many threads, whatever the
// input.
std::int64_t held_memory(int threads, bool training);

// Tells, with --verbosity 4, what was expected and what was used.
void log_memory();

}  // namespace m5
