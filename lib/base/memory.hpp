// The memory of this process: what it may take, and checks before it is taken. Memory is what the
// kernel counts as resident (VmRSS, its peak VmHWM): all that the process touched, with the pages
// of the program and its libraries.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace m5 {

// What this process may take in all: max_memory, where that is not 0, or what it has and what the
// machine, ulimit -v and the control group have left.
struct MemoryLimit {
  std::uint64_t bytes;
  bool by_option;  // --max-memory
};
MemoryLimit memory_limit(std::int64_t max_memory);
// Whether a need is within a limit. What a process holds at the same place of two runs differs by
// some hundred kB, so the two are compared to 1 MB: a need that was told once is enough for ever.
inline constexpr std::uint64_t kMemoryTolerance = 1'000'000;
bool fits(std::uint64_t need, const MemoryLimit& limit);

// --max-memory of the process from now on; 0, as at first: what is available.
void set_max_memory(std::int64_t bytes);
// Called before memory is taken: the process will hold `total` bytes, or `more` than now. Throws
// Error(kResource) naming the need, the limit and what to do. what: such as "record 'x'".
void require_memory(std::uint64_t total, const std::string& what);
void require_more_memory(std::uint64_t more, const std::string& what);
// The most that was asked for so far.
std::uint64_t expected_memory();

// What a buffer of the cpu backend comes to: large ones lie in huge pages.
std::uint64_t block_memory(std::uint64_t bytes);
// Lists of many small things: what an allocation of malloc comes to.
std::uint64_t heap_memory(std::uint64_t bytes);

// Called first in main: a large block goes back to the system when it is freed, whichever thread
// had it, so that what is held is what is used.
void keep_no_freed_memory();

}  // namespace m5
