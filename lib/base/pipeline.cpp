#include "base/pipeline.hpp"

#include <csignal>
#include <system_error>

#include "m5/error.hpp"

namespace m5 {

std::thread start_helper_thread(std::function<void()> work) {
  // A thread begins with the mask of the one that starts it.
  sigset_t held, before;
  sigfillset(&held);
  for (int own : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS, SIGPIPE}) {
    sigdelset(&held, own);
  }
  pthread_sigmask(SIG_BLOCK, &held, &before);
  try {
    std::thread thread(std::move(work));
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    return thread;
  } catch (const std::system_error& error) {
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    throw Error(ErrorKind::kResource, "no thread to read and write with could be started (" +
                                          error.code().message() + "); use fewer: --threads");
  }
}

}  // namespace m5
