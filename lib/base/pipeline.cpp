#include "base/pipeline.hpp"

#include <csignal>
#include <system_error>
#include <utility>

#include "base/hold_signals.hpp"
#include "m5/error.hpp"

namespace m5 {

std::thread start_helper_thread(std::function<void()> work) {
  const HoldSignals hold({SIGPIPE});
  try {
    return std::thread(std::move(work));
  } catch (const std::system_error& error) {
    throw Error(ErrorKind::kResource, "no thread to read and write with could be started (" +
                                          error.code().message() + "); use fewer: --threads");
  }
}

}  // namespace m5
