// The calling thread's signals, held back for a while.
#pragma once

#include <csignal>
#include <initializer_list>

namespace m5 {

// While one lives, no handler of an asynchronous signal runs on this thread, but those of
// `delivered`; threads started meanwhile begin so. Faults of our own still end the process.
class HoldSignals {
 public:
  explicit HoldSignals(std::initializer_list<int> delivered = {}) {
    sigset_t held;
    sigfillset(&held);
    for (int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS}) {
      sigdelset(&held, fault);
    }
    for (int signal : delivered) sigdelset(&held, signal);
    pthread_sigmask(SIG_BLOCK, &held, &before_);
  }
  HoldSignals(const HoldSignals&) = delete;
  HoldSignals& operator=(const HoldSignals&) = delete;
  ~HoldSignals() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

 private:
  sigset_t before_;
};

}  // namespace m5
