// Calls of this program that fail, or bring a signal, when they are told to: allocations, threads,
// and calls of the system.
#pragma once

#include <unistd.h>

#include <cstdint>

namespace m5::faults {

// kSystem: open, write, pwrite, fsync, fchmod, fcntl, close, rename, link, unlink, flock, stat,
// fstat, access (EIO; what is to be closed is closed), and bgzf_compress.
enum class Call { kNew, kThread, kSystem };
enum class Effect {
  kFails,          // the n-th; unlink does not
  kFailsFromThen,  // the n-th and all after it
  kSignalBefore,   // SIGTERM, before the n-th call of the system
  kSignalAfter,
};

// While it lives, for the n-th call from now on; 0: none, they are counted. One at a time.
class Injection {
 public:
  Injection(Call call, std::int64_t n, Effect effect = Effect::kFails);
  ~Injection() { end(); }
  Injection(const Injection&) = delete;
  Injection& operator=(const Injection&) = delete;
  std::int64_t calls() const;
  void end();  // what comes now is not counted
};

// Ends the process when the test hangs.
class Watchdog {
 public:
  Watchdog() { alarm(240); }
  ~Watchdog() { alarm(0); }
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;
};

// Called before an allocation or a thread fails; null: nothing.
inline void (*before_failure)() = nullptr;

}  // namespace m5::faults
